// The operations view: the state of each part, locks, jobs and dead letters, with an operator's actions.

import { call, get, path, since } from "./api.js";
import { confirm, count, duration, h, say, short, show, sync, table } from "./dom.js";
import * as health from "./health.js";
import { createJobs } from "./jobs-list.js";
import { createOutages } from "./outages.js";
import { section } from "./section.js";
import { createStatistics } from "./statistics.js";
import { createView } from "./view.js";

export function create(root, settings) {
  return createView(root, "see and run operations", (act, tell) => {
    const sections = [createParts(), createLocks(act, settings), createStatistics(), createJobs(act), createDeadLetters(act)];
    if (settings.outages) sections.splice(1, 0, createOutages(tell));
    return sections;
  });
}

function createParts() {
  const tiles = h("ul", { class: "tiles" });
  const create = () =>
    h("li", { class: "tile" }, h("strong", {}), h("span", { class: "state" }), h("span", { class: "muted" }));
  const update = (node, part) => {
    node.className = `tile ${part.level}`;
    say(node.children[0], part.name);
    say(node.children[1], part.state);
    say(node.children[2], part.note);
  };
  const draw = (status) => sync(tiles, status ? parts(status) : [], (part) => part.name, create, update);
  health.onStatus(draw);
  const ask = async () => {
    await health.refresh();
    if (health.trouble()) throw health.trouble();
  };
  return section("Health", { class: "card wide" }, tiles, ask, () => {});
}

function parts({ status, components, tiers, queue, worker, safety }) {
  const uses = (tier) => (components.tier === tier ? "coordinates now" : "");
  const store = (tier, name, duty) => {
    if (!(tier in tiers)) return { name, level: "off", state: "not configured", note: duty };
    const up = tiers[tier] === "up";
    return { name, level: up ? "good" : "warn", state: tiers[tier].replace("_", "-"), note: uses(tier) || duty };
  };
  const known = (number) => number ?? "?";
  const silent = worker.state === "silent";
  return [
    {
      name: "Service",
      level: { healthy: "good", degraded: "warn" }[status] ?? "bad",
      state: status,
      note: `tier: ${components.tier}`,
    },
    store("redis", "Redis", "coordination"),
    store("postgres", "Postgres", "arbiter and archive"),
    {
      name: "Queue",
      level: components.queue === "unavailable" ? "bad" : queue.dead_letters ? "warn" : "good",
      state: components.queue === "unavailable" ? "away" : `${known(queue.visible)} waiting`,
      note: `${known(queue.in_flight)} in flight · ${known(queue.delayed)} delayed · ${known(queue.dead_letters)} dead letters`,
    },
    {
      name: "Worker",
      level: silent ? "bad" : worker.state === "unknown" ? "warn" : "good",
      state: silent ? "silent: no worker answers" : worker.state,
      note: `${known(worker.running)} running · ${known(worker.waiting)} waiting`,
    },
    ...(safety ? [emergencies(safety), rulesOf(safety)] : []),
  ];
}

/** The safety rules: whether a clinician has reviewed them, and which of them do not apply. */
function rulesOf({ rules: { review, not_applicable: left, refused } }) {
  const states = { missing: "not reviewed", other_version: "changed since the review", old: "review older than a year" };
  const notes = [left.length ? `not applicable: ${left.join(", ")}` : "", refused.length ? "own rules do not count" : ""];
  return {
    name: "Safety rules",
    level: review === "valid" && !left.length && !refused.length ? "good" : "warn",
    state: states[review] ?? "reviewed",
    note: notes.filter(Boolean).join(" · "),
  };
}

/** What patients in danger may miss. */
function emergencies({ without_contacts: bots, old_reviews: reviews }) {
  const old = reviews.map(({ country, reviewed_at: day }) => `${country} ${day}`);
  return {
    name: "Emergency contacts",
    level: bots.length || old.length ? "warn" : "good",
    state: bots.length ? `missing for ${bots.join(", ")}` : "given",
    note: old.length ? `review older than a year: ${old.join(", ")}` : "",
  };
}

/** A worker that is silent for `stale_seconds` loses its lease. A job that waits for `wake_seconds` is woken. */
function createLocks(act, { stale_seconds: stale, wake_seconds: wake }) {
  const age = (time) => (time ? `${duration(since(time))} ago` : "none yet");
  const stuck = (lock) =>
    lock.heartbeat_at ? since(lock.heartbeat_at) > stale : since(lock.acquired_at) > wake;
  let locks = new Map(); // by conversation, as last shown: the question before a release describes the current lock
  const release = (id) => async () => {
    const lock = locks.get(id);
    const sure = await confirm({
      title: `Release the lock of ${lock.conversation_id}?`,
      says: [
        `The worker of job …${short(lock.ai_job_id)} is fenced out: it can't commit a reply any more.`,
        `Another worker answers its ${count(lock.consolidated_messages, "message")} with one reply.`,
        "The AI may be asked a second time.",
        "The audit records it.",
      ],
      action: "Release it",
    });
    if (sure)
      await act(
        () => call("DELETE", path("admin/locks", lock.conversation_id)),
        () => `${lock.conversation_id} is free: another worker answers it.`,
      );
  };
  const rows = table(
    "Live locks",
    [
      { title: "Conversation", text: (lock) => lock.conversation_id, class: "id" },
      { title: "Owner job", text: (lock) => `…${short(lock.ai_job_id)}`, class: "id" },
      { title: "Messages", text: (lock) => String(lock.consolidated_messages) },
      { title: "Age", text: (lock) => duration(since(lock.acquired_at)) },
      {
        title: "Heartbeat",
        make: () => h("span", { class: "state" }),
        update: (cell, lock) => {
          const bad = stuck(lock);
          cell.firstChild.className = bad ? "state bad" : "state";
          say(cell.firstChild, `${age(lock.heartbeat_at)}${bad ? " · stuck" : ""}`);
        },
      },
      { title: "Tier", text: (lock) => lock.tier },
      {
        title: "Action",
        make: (lock) =>
          h(
            "button",
            { type: "button", "aria-label": `Release ${lock.conversation_id}`, on: { click: release(lock.conversation_id) } },
            "Release",
          ),
      },
    ],
    (lock) => lock.conversation_id,
    "No conversation is locked: nothing waits or runs.",
  );
  return section(
    "Live locks",
    { class: "card wide" },
    rows.node,
    () => get("admin/locks"),
    (found) => {
      locks = new Map(found.locks.map((lock) => [lock.conversation_id, lock]));
      rows.show([...found.locks].sort((one, other) => stuck(other) - stuck(one)));
    },
  );
}

function createDeadLetters(act) {
  let found = [];
  const redrive = async () => {
    const sure = await confirm({
      title: "Redrive the dead letters?",
      says: [
        `${count(found.length, "webhook delivery", "webhook deliveries")} that failed for a day will be tried again for another day.`,
        "A delivery that the platform got but did not confirm arrives again, with the same webhook-id.",
        "The audit records it.",
      ],
      action: "Redrive them",
    });
    if (sure)
      await act(
        () => call("POST", "admin/dead-letters/redrive"),
        (answer) => `${count(answer.redriven, "delivery", "deliveries")} will be tried again.`,
      );
  };
  const button = h("button", { type: "button", on: { click: redrive } }, "Redrive all");
  const rows = table(
    "Dead letters",
    [
      { title: "Conversation", text: (letter) => letter.conversation_id, class: "id" },
      { title: "Event", text: (letter) => letter.event },
      { title: "Job", text: (letter) => `…${short(letter.job_id)}`, class: "id" },
      { title: "Attempts", text: (letter) => String(letter.attempts) },
      { title: "Since", text: (letter) => `${duration(since(letter.created_at))} ago` },
      { title: "Last error", text: (letter) => letter.last_error },
    ],
    (letter) => letter.webhook_id,
    "No delivery was given up.",
  );
  const draw = ({ deliveries }) => {
    found = deliveries;
    rows.show(found);
    show(button, found.length > 0);
  };
  return section("Dead letters", { class: "card wide" }, [rows.node, button], () => get("admin/dead-letters"), draw);
}
