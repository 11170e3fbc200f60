#!/usr/bin/env bash
# Install the servers that the tests talk to: Debian's Prometheus, Alertmanager, Chromium and wrk, without starting any;
# and what they read: fonts and manual pages in Chinese.
# Does nothing when they are there; needs root and apt-get otherwise, and says so.
set -euo pipefail

declare -A package_of=(
  [prometheus]=prometheus [promtool]=prometheus [alertmanager]=prometheus-alertmanager
  [prometheus-alertmanager]=prometheus-alertmanager [amtool]=prometheus-alertmanager
  [chromium]=chromium [chromedriver]=chromium-driver [wrk]=wrk
)

have() { command -v "$1" >/dev/null 2>&1; }

packages=()
for program in prometheus promtool amtool chromium chromedriver wrk; do
  have "$program" || packages+=("${package_of[$program]}")
done
# Debian calls the binary prometheus-alertmanager, everybody else alertmanager.
have alertmanager || have prometheus-alertmanager || packages+=(prometheus-alertmanager)
# Chinese glyphs for screenshots and for the picture of a report.
[ -e /usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc ] || packages+=(fonts-noto-cjk)
# Chinese manual pages: real questions and passages for the tests of retrieval. Slim images leave manuals out.
manuals=/usr/share/man/zh_CN
[ -e $manuals/man1/ls.1.gz ] || packages+=(manpages-zh)
[ ${#packages[@]} -eq 0 ] && exit 0
mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)

if ! have apt-get || [ "$(id -u)" -ne 0 ]; then
  echo "error: the tests need ${packages[*]}, which only root can install here" >&2
  echo "  → sudo apt-get install --no-install-recommends ${packages[*]}" >&2
  exit 2
fi

# Debian asks this file before it starts a freshly installed service; 101 means no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
echo "installing ${packages[*]}, without starting their services" >&2
export DEBIAN_FRONTEND=noninteractive
lists=(/var/lib/apt/lists/*Packages*)
[ -e "${lists[0]}" ] || apt-get update -qq
# A dpkg lock held by somebody else is waited for. Old package lists are refreshed once when a download fails.
install=(apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300
  -o "Dpkg::Options::=--path-include=$manuals/*" "${packages[@]}")
"${install[@]}" >/dev/null || { apt-get update -qq && "${install[@]}" >/dev/null; }
