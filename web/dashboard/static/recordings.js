// The recordings that were dropped or spoken in this tab, by the id of their job: they play from here.

const urls = new Map();

export function keep(jobId, file) {
  urls.set(jobId, URL.createObjectURL(file));
}

export function recordingOf(jobId) {
  return urls.get(jobId) ?? null;
}
