// Following jobs to their end, by few requests: each asks the API to wait, and only so many wait at a time.

import { Problem, get, path, pause, since } from "./api.js";

/** The API's long polls hold a function each, and a browser has six connections: leave some for what is sent. */
const PLACES = 3;
/** A young job is looked at often, so that restarts and the text so far are seen as they happen. */
const YOUNG_SECONDS = 15;

const waiting = [];
let taken = 0;
let followed = 0;

async function inTurn(ask) {
  if (taken >= PLACES) await new Promise((resolve) => waiting.push(resolve));
  else taken += 1;
  try {
    return await ask();
  } finally {
    const next = waiting.shift();
    if (next) next();
    else taken -= 1;
  }
}

export const hasEnded = (job) => ["completed", "failed", "cancelled"].includes(job.status);

function patience(job) {
  if (!job || followed > PLACES) return 1;
  return job.progress.text === undefined && since(job.created_at) > YOUNG_SECONDS ? 20 : 1;
}

/**
 * Follow a job until it has ended, and from there the job that answers in its place. `told(job)` hears each state,
 * `lost(job_id, problem)` that a job can't be found out about. Ends early when `signal` aborts.
 */
export async function follow(jobId, { told, lost, signal }) {
  const seen = new Set();
  followed += 1;
  try {
    for (let id = jobId; id && !seen.has(id) && !signal.aborted;) {
      seen.add(id);
      id = (await toItsEnd(id, told, lost, signal))?.superseded_by;
    }
  } finally {
    followed -= 1;
  }
}

async function toItsEnd(jobId, told, lost, signal) {
  let job = null;
  let troubles = 0;
  while (!signal.aborted) {
    const began = performance.now();
    try {
      job = await inTurn(() => get(`${path("jobs", jobId)}?wait=${patience(job)}`, { signal }));
      troubles = 0;
      told(job);
      if (hasEnded(job)) return job;
      // Where the template turns waiting off, we wait.
      if (performance.now() - began < 500) await pause(1000, signal);
    } catch (problem) {
      if (signal.aborted) return null;
      if (!(problem instanceof Problem)) throw problem;
      troubles += 1;
      // A store that is away comes back, and with it what only that store knows.
      const final = [400, 401, 403].includes(problem.status) || (problem.status === 404 && troubles > 20);
      if (final) {
        lost(jobId, problem);
        return null;
      }
      await pause(Math.min(500 * troubles, 5000), signal);
    }
  }
  return null;
}
