"""
Manifests for Kubernetes: servers that are restarted and scaled as wholes, and watched by Prometheus.

Every pod is one server with its own model processes, and needs nothing of the others. It listens on the pod's address
without Xinference's authentication, whose keys would be each pod's own; and that address is also where Xinference's
actors listen, which run whatever they are sent. So a NetworkPolicy lets in the one port of the API: without a network
plug-in that heeds it, do not use these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from slo.errors import ConfigError
from slo.report.prometheus import JOB, rules_file, to_yaml
from slo.report.promise import Promise, literal

STATE = "/var/lib/slo"
SETTINGS = "/etc/slo"
MODELS = "/models"
PORT_NAME = "http"
BUSY = 0.7  # of the tokens that full passes compute: above it queues grow long before it is all used
LAUNCH_S = 900  # a first start converts and quantises the model
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?")

Manifest = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class PodPlan:
    """What shall run. `settings` is the configuration for the pods; `model` what requests ask for.

    The model's files come from the volume claim `model_claim`, from the folder `model_folder` of the node, or with
    neither from the image. With `most` above `replicas` and a `prometheus` to ask, KEDA scales between the two.
    """

    name: str
    image: str
    model: str
    settings: Mapping[str, Any]
    port: int = 9997
    replicas: int = 2
    most: int = 0
    cores: int = 2
    memory: str = "3Gi"
    model_claim: str = ""
    model_folder: str = ""
    prometheus: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"{self.name!r} is no name for Kubernetes: small letters, digits and -, at most 42")
        if self.replicas < 1 or (self.most and self.most < self.replicas):
            raise ConfigError(f"between {self.replicas} and {self.most} pods there is no number")
        if self.most > self.replicas and not self.prometheus:
            raise ConfigError("to scale, KEDA has to ask Prometheus", hint="give its address with --prometheus-url")

    @property
    def scales(self) -> bool:
        return self.most > self.replicas

    @property
    def labels(self) -> dict[str, str]:
        return {"app.kubernetes.io/name": JOB, "app.kubernetes.io/instance": self.name}

    @property
    def selector(self) -> Manifest:
        return {"matchLabels": self.labels}


def manifests(at: PodPlan, promises: Sequence[Promise], *, runbook: str, header: str = "") -> dict[str, str]:
    """File names and contents; numbered, so that `kubectl apply -f FOLDER` takes them in order."""
    found: dict[str, Manifest] = {
        "10-config": _object(at, "v1", "ConfigMap", data={"slo.yaml": to_yaml(dict(at.settings))}),
        "20-deployment": _deployment(at),
        "30-service": _object(
            at, "v1", "Service",
            spec={"selector": at.labels, "ports": [{"name": PORT_NAME, "port": at.port, "targetPort": PORT_NAME}]},
        ),
        "40-network-policy": _object(
            at, "networking.k8s.io/v1", "NetworkPolicy",
            spec={
                "podSelector": at.selector,
                "policyTypes": ["Ingress"],
                "ingress": [{"ports": [{"protocol": "TCP", "port": PORT_NAME}]}],
            },
        ),
        "50-disruption-budget": _object(
            at, "policy/v1", "PodDisruptionBudget", spec={"maxUnavailable": 1, "selector": at.selector}
        ),
        "60-service-monitor": _object(
            at, "monitoring.coreos.com/v1", "ServiceMonitor",
            spec={
                "jobLabel": "app.kubernetes.io/name",
                "selector": at.selector,
                "endpoints": [{"port": PORT_NAME, "path": "/slo/metrics", "interval": "15s"}],
            },
        ),
        "70-rules": _object(
            at, "monitoring.coreos.com/v1", "PrometheusRule", spec={"groups": _groups(promises, runbook)}
        ),
    }  # fmt: skip
    if at.scales:
        found["80-scaled-object"] = _scaled(at, promises)
    return {f"{name}.yaml": header + to_yaml(manifest) for name, manifest in found.items()}


def _object(at: PodPlan, version: str, kind: str, **parts: Any) -> Manifest:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": at.name, "labels": at.labels}, **parts}


def _deployment(at: PodPlan) -> Manifest:
    def probe(path: str, *, every_s: int, failures: int) -> Manifest:
        asked = {"httpGet": {"path": path, "port": PORT_NAME}}
        return {**asked, "periodSeconds": every_s, "timeoutSeconds": 6, "failureThreshold": failures}

    volumes: list[Manifest] = [
        {"name": "config", "configMap": {"name": at.name}},
        {"name": "state", "emptyDir": {}},
    ]
    mounts: list[Manifest] = [
        {"name": "config", "mountPath": SETTINGS, "readOnly": True},
        {"name": "state", "mountPath": STATE},
    ]
    if at.model_claim or at.model_folder:
        source = (
            {"persistentVolumeClaim": {"claimName": at.model_claim, "readOnly": True}} if at.model_claim
            else {"hostPath": {"path": at.model_folder, "type": "Directory"}}
        )  # fmt: skip
        volumes.append({"name": "model", **source})
        mounts.append({"name": "model", "mountPath": MODELS, "readOnly": True})
    resources = {"cpu": str(at.cores), "memory": at.memory}
    container = {
        "name": "server",
        "image": at.image,
        "command": ["slo", "launch", "--foreground", "--config", f"{SETTINGS}/slo.yaml"],
        "workingDir": STATE,
        "env": [{"name": "HOME", "value": STATE}],
        "ports": [{"name": PORT_NAME, "containerPort": at.port}],
        # As much as asked for and no more: with whole cores the kubelet can keep others off them.
        "resources": {"requests": resources, "limits": resources},
        "startupProbe": probe("/slo/readyz", every_s=10, failures=LAUNCH_S // 10),
        "readinessProbe": probe("/slo/readyz", every_s=5, failures=3),
        "livenessProbe": probe("/slo/livez", every_s=10, failures=6),
        # Until nobody sends new requests here any more.
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": mounts,
    }
    pod = {
        "terminationGracePeriodSeconds": 60,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # variables of other services may begin with SLO_
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "topologySpreadConstraints": [
            {
                "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": at.selector,
            }
        ],
        "containers": [container],
        "volumes": volumes,
    }  # fmt: skip
    spec: Manifest = {} if at.scales else {"replicas": at.replicas}  # else every `apply` would undo the scaling
    spec |= {
        "selector": at.selector,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "progressDeadlineSeconds": LAUNCH_S + 300,
        "template": {"metadata": {"labels": at.labels}, "spec": pod},
    }
    return _object(at, "apps/v1", "Deployment", spec=spec)


def _groups(promises: Sequence[Promise], runbook: str) -> list[Manifest]:
    """The rules of the promises. Those about `slo watch` are left out: here Prometheus itself watches."""
    groups: list[Manifest] = yaml.safe_load(rules_file(promises, runbook=runbook))["groups"]
    return [group for group in groups if str(group["name"]).startswith("sloth-")]


def _scaled(at: PodPlan, promises: Sequence[Promise]) -> Manifest:
    """By how busy the engines are, which grows with the load; and by the queue, for a burst that outruns the minute.

    A queue of half the objective's threshold leaves the other half for the pass.
    """
    which = f'{{model="{at.model}"}}'
    busy = (
        f'sum(rate(slo_engine_tokens_total{{model="{at.model}",what="text"}}[1m]))'
        f" / sum(slo_capacity_tokens_per_second{which})"
    )
    queue = (
        f'sum(slo_queue_tokens{{model="{at.model}",class!="batch"}})'
        f" / sum(slo_capacity_tokens_per_second{which})"
    )  # fmt: skip
    threshold_s = min((p.threshold_s for p in promises if p.threshold_s is not None), default=0.15)

    def trigger(query: str, threshold: float) -> Manifest:
        about = {"serverAddress": at.prometheus, "query": query, "threshold": literal(threshold)}
        return {"type": "prometheus", "metricType": "Value", "metadata": about}

    steps = {
        # Twice as many a minute at most: a new pod takes that long until it serves.
        "scaleUp": {"policies": [{"type": "Percent", "value": 100, "periodSeconds": 60}]},
        "scaleDown": {
            "stabilizationWindowSeconds": 600,
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 120}],
        },
    }
    return _object(
        at, "keda.sh/v1alpha1", "ScaledObject",
        spec={
            "scaleTargetRef": {"name": at.name},
            "minReplicaCount": at.replicas,
            "maxReplicaCount": at.most,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": steps}},
            "triggers": [trigger(busy, BUSY), trigger(queue, threshold_s / 2)],
        },
    )  # fmt: skip
