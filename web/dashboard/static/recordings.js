// The recordings that were dropped or recorded in this tab, by the ids of their jobs. They are played from memory.

const urls = new Map();

export function keep(jobId, file) {
  urls.set(jobId, URL.createObjectURL(file));
}

export function recordingOf(jobId) {
  return urls.get(jobId) ?? null;
}
