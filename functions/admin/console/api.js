// Calls the API. Its address is that of the page without the last part: /v1/ for /v1/console.

import { authorization, refreshed } from "./signin.js";

const BASE = new URL(".", location.href);

/** An error's answer (RFC 9457). `status` is 0 if there was no answer. `field` names the wrong field. */
export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail ?? body?.title ?? (status ? `The API answered ${status}.` : "The API does not answer."));
    this.status = status;
    this.body = body;
    this.field = body?.field ?? null;
  }
}

/** Milliseconds by which the server's clock is ahead of this one, from its `Date` header: exact to the second. */
let ahead = 0;

/** Seconds since a time that the API sent, by the API's clock; null for no time. */
export function since(time) {
  return time ? Math.max(0, (Date.now() + ahead - Date.parse(time)) / 1000) : null;
}

/** Seconds between two times of the API; null if one is missing. */
export function between(from, to) {
  return from && to ? (Date.parse(to) - Date.parse(from)) / 1000 : null;
}

/**
 * Call the API: `{ status, body, etag }`. Throws a Problem for an error and for a missing answer, and an AbortError
 * when `signal` aborts.
 */
export async function call(method, path, { body, headers = {}, signal } = {}) {
  const send = () => fetched(method, path, body, headers, signal);
  let response = await send();
  if (response.status === 401 && (await refreshed())) response = await send();
  const date = Date.parse(response.headers.get("Date"));
  if (date) ahead = Math.abs(date - Date.now()) < 2000 ? 0 : date - Date.now();
  const answer = await response.json().catch(() => null);
  signal?.throwIfAborted();
  // Each answer is JSON. If it is not, the server died while it answered.
  if (!response.ok || answer === null) throw new Problem(response.ok ? 0 : response.status, answer);
  return { status: response.status, body: answer, etag: response.headers.get("ETag") };
}

async function fetched(method, path, body, headers, signal) {
  const sent = { ...authorization(), ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  try {
    return await fetch(new URL(path, BASE), {
      method,
      headers: sent,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
      credentials: "omit",
      referrerPolicy: "no-referrer",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, null);
  }
}

/** The body of the answer to a GET. */
export async function get(path, options) {
  return (await call("GET", path, options)).body;
}

/** The first `most` pages of a list, as `{ list, next }`. `address` has a query already, and `name` is the list's field. */
export async function pages(address, name, most) {
  const list = [];
  let next = null;
  for (let number = 0; number < most && (number === 0 || next); number += 1) {
    const page = await get(`${address}${next ? `&next=${encodeURIComponent(next)}` : ""}`);
    list.push(...page[name]);
    next = page.next;
  }
  return { list, next };
}

/** A path whose parts are escaped, because people type them: `path("admin/bots", id)`. */
export function path(collection, ...parts) {
  return [collection, ...parts.map(encodeURIComponent)].join("/");
}

/** Resolves after this many milliseconds, or as soon as the signal aborts. */
export function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    signal?.addEventListener("abort", end);
  });
}
