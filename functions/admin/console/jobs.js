// Follows jobs to their end with few requests: each asks the API to wait, and up to 3 wait at a time.

import { Problem, get, path, pause, since } from "./api.js";

/** Each long poll holds a connection, and a browser has six: some must be free to send messages. */
const PLACES = 3;
/** A young job is polled often, to show restarts and the text so far as they happen. */
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
 * Follow a job to its end, then the job that answers in its place. `update(job)` gets each state. `lost(job_id, problem)`
 * is called if a job's state can't be read. Ends early when `signal` aborts.
 */
export async function follow(jobId, { update, lost, signal }) {
  const seen = new Set();
  followed += 1;
  try {
    for (let id = jobId; id && !seen.has(id) && !signal.aborted;) {
      seen.add(id);
      id = (await followToEnd(id, update, lost, signal))?.superseded_by;
    }
  } finally {
    followed -= 1;
  }
}

async function followToEnd(jobId, update, lost, signal) {
  let job = null;
  let troubles = 0;
  while (!signal.aborted) {
    const began = performance.now();
    try {
      job = await inTurn(() => get(`${path("jobs", jobId)}?wait=${patience(job)}`, { signal }));
      troubles = 0;
      update(job);
      if (hasEnded(job)) return job;
      // If the deployment turns long polls off, pause here instead.
      if (performance.now() - began < 500) await pause(1000, signal);
    } catch (problem) {
      if (signal.aborted) return null;
      if (!(problem instanceof Problem)) throw problem;
      troubles += 1;
      // A 404 is repeated: the job may be known only to a store that is away and comes back.
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
