// Vectors compared.

/** Cosine similarity of two vectors of one length; 0 if either is all zeros. */
export function cosine(a, b) {
  let dot = 0;
  let normA = 0;
  let normB = 0;
  for (let i = 0; i < a.length; i += 1) {
    dot += a[i] * b[i];
    normA += a[i] * a[i];
    normB += b[i] * b[i];
  }
  return normA && normB ? dot / Math.sqrt(normA * normB) : 0;
}

/** Every vector against every other. */
export function allPairs(vectors) {
  return vectors.map((a) => vectors.map((b) => cosine(a, b)));
}
