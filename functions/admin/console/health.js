// How the service is, for the whole page: asked of the API now and then, and heard from each 202.

import { get } from "./api.js";
import { h } from "./dom.js";

const EVERY_MS = 15_000;

const listeners = new Set();
let status = null; // what GET /admin/status said last; null while it is not known
let problem = null; // why it is not known
let told = false; // whether the last 202 was degraded
let asking = null;

/** Call `listener(status)` whenever the status was asked for; null where it isn't known. */
export function onStatus(listener) {
  listeners.add(listener);
}

/** Ask now. Raises nothing: what went wrong is part of how it is. */
export function refresh() {
  asking ??= (async () => {
    try {
      status = await get("admin/status");
      problem = null;
      told = status.status === "degraded";
    } catch (error) {
      status = null;
      problem = error;
    }
    asking = null;
    show();
    for (const listener of listeners) listener(status);
  })();
  return asking;
}

/** Why the status isn't known, null where it is. */
export const trouble = () => problem;

/** What a 202 said of it. The first that says something new makes us ask. */
export function noticed(degraded) {
  if (degraded === told) return;
  told = degraded;
  show();
  refresh();
}

/** Begin to ask, for as long as somebody looks. */
export function begin() {
  const look = () => document.visibilityState === "visible" && refresh();
  setInterval(look, EVERY_MS);
  document.addEventListener("visibilitychange", look);
  return refresh();
}

let shown = "";

function show() {
  const banner = document.getElementById("banner");
  const [level, title, text] = explained();
  if (`${level} ${title} ${text}` === shown) return;
  shown = `${level} ${title} ${text}`;
  banner.className = level ? `banner ${level}` : "";
  banner.replaceChildren(...(level ? [h("strong", {}, title), h("span", {}, text)] : []));
  document.title = level ? `${title} · MessageHandler console` : "MessageHandler console";
}

function explained() {
  if (problem?.status === 0 || problem?.status >= 500)
    return ["bad", "No answer", "The API does not answer. What was accepted is safe; this page asks again."];
  if (!status) {
    return told ? ["warn", "Degraded", "Messages are taken and answered on a lower tier than configured."] : [];
  }
  const { components, tiers, worker } = status;
  if (components.queue === "unavailable") {
    return [
      "bad",
      "Unhealthy",
      "The queue is away: nothing is accepted that could be lost. Platforms get 503 and send again.",
    ];
  }
  if (worker.state === "silent") {
    const time = new Date(worker.last_heartbeat_at ?? worker.oldest_waiting_at).toLocaleTimeString();
    return [
      "bad",
      "Nobody answers",
      `Messages are accepted and safe, but no worker has shown a sign of life since ${time}.`,
    ];
  }
  if (status.status === "unhealthy") return ["bad", "Unhealthy", "No store answers: nobody knows what waits or runs."];
  const redis = tiers.redis === "away";
  const postgres = tiers.postgres === "away" || (!components.database_connected && "postgres" in tiers);
  const readOnly = Object.keys(tiers).filter((name) => tiers[name] === "read_only");
  if (readOnly.length && !redis && tiers.postgres !== "away") {
    const names = readOnly.map((name) => ({ redis: "Redis", postgres: "Postgres" })[name]).join(" and ");
    return [
      "warn",
      "Degraded",
      `${names} can be read and refuses to write. Messages are taken and answered, as if it were away.`,
    ];
  }
  if (redis && postgres) {
    return [
      "warn",
      "Degraded",
      "Redis and Postgres are away. Messages are taken and answered, but without order, cancel or exclusion.",
    ];
  }
  if (redis) {
    return ["warn", "Degraded", "Redis is away, Postgres coordinates. Everything goes on; nothing is lost or doubled."];
  }
  if (postgres) {
    return [
      "warn",
      "Degraded",
      "Postgres is away. Messages are taken and answered; cancel, release and hand-off wait for it, the archive catches up.",
    ];
  }
  if (status.status === "degraded") return ["warn", "Degraded", `Working on the ${components.tier} tier.`];
  return [];
}
