// The operations view: how each part is, what is locked, what became of jobs, and what an operator can do about it.

import { between, call, get, path, since } from "./api.js";
import { chart } from "./charts.js";
import { confirm, count, duration, h, say, short, show, sync, table } from "./dom.js";
import * as health from "./health.js";
import { createOutages } from "./outages.js";
import { lacksScope } from "./refusal.js";

const EVERY_MS = 3000;
const MINUTES = 15;
/** As the service has it: a worker that is silent for longer loses its claim; what waits for longer is woken. */
const STALE_SECONDS = 15;
const WAKE_SECONDS = 60;
const STATUSES = ["", "processing", "completed", "failed", "cancelled"];

export function create(root, settings) {
  const refusal = h("div", { class: "notice warn", role: "alert", hidden: true });
  const outcome = h("p", { class: "notice good", role: "status", hidden: true });
  const tell = (text, bad = false) => {
    outcome.className = `notice ${bad ? "bad" : "good"}`;
    say(outcome, text);
    show(outcome, true);
  };
  const refreshAll = () => Promise.all(sections.map((section) => section.refresh()));
  const act = async (step, done) => {
    try {
      tell(done((await step()).body));
    } catch (problem) {
      tell(problem.message, true);
    }
    await refreshAll();
  };
  const sections = [createParts(), createLocks(act), createStatistics(), createJobs(act), createDeadLetters(act)];
  if (settings.outages) sections.splice(1, 0, createOutages(tell));
  const body = h("div", { class: "cards" }, sections.map((section) => section.node));
  root.append(refusal, outcome, body);
  let timer = null;
  const look = async () => {
    if (document.visibilityState !== "visible") return;
    const problem = (await refreshAll()).find(Boolean) ?? null;
    const refused = problem?.status === 403;
    show(body, !refused);
    show(refusal, refused);
    if (refused) refusal.replaceChildren(...lacksScope("see and run operations"));
  };
  return {
    async shown() {
      clearInterval(timer);
      timer = setInterval(look, EVERY_MS);
      await look();
    },
    hidden: () => clearInterval(timer),
  };
}

/** A section that asks the API when it is refreshed, and says in its own place what went wrong. */
function section(title, attributes, children, ask) {
  const trouble = h("p", { class: "notice warn", hidden: true });
  return {
    node: h("section", attributes, h("h2", {}, title), trouble, children),
    async refresh() {
      try {
        await ask();
        show(trouble, false);
        return null;
      } catch (problem) {
        say(trouble, problem.message);
        show(trouble, true);
        return problem;
      }
    },
  };
}

function createParts() {
  const tiles = h("ul", { class: "tiles" });
  const create = () => h("li", { class: "tile" }, h("strong", {}), h("span", { class: "state" }), h("span", { class: "muted" }));
  const update = (node, part) => {
    node.className = `tile ${part.level}`;
    say(node.children[0], part.name);
    say(node.children[1], part.state);
    say(node.children[2], part.note);
  };
  const draw = (status) => sync(tiles, status ? parts(status) : [], (part) => part.name, create, update);
  health.onStatus(draw);
  return section("Health", { class: "card wide" }, tiles, async () => {
    await health.refresh();
    if (health.trouble()) throw health.trouble();
  });
}

function parts({ status, components, tiers, queue, worker }) {
  const uses = (tier) => (components.tier === tier ? "coordinates now" : "");
  const store = (tier, name, duty) => {
    if (!(tier in tiers)) return { name, level: "off", state: "not configured", note: duty };
    const up = tiers[tier] === "up";
    return { name, level: up ? "good" : "warn", state: up ? "up" : "away", note: uses(tier) || duty };
  };
  const known = (number) => number ?? "?";
  const silent = worker.state === "silent";
  return [
    { name: "Service", level: { healthy: "good", degraded: "warn" }[status] ?? "bad", state: status, note: `tier: ${components.tier}` },
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
      state: silent ? "silent: nobody answers" : worker.state,
      note: `${known(worker.running)} running · ${known(worker.waiting)} waiting`,
    },
  ];
}

function createLocks(act) {
  const age = (time) => (time ? `${duration(since(time))} ago` : "none yet");
  const stuck = (lock) =>
    lock.heartbeat_at ? since(lock.heartbeat_at) > STALE_SECONDS : since(lock.acquired_at) > WAKE_SECONDS;
  const release = (lock) => async () => {
    const sure = await confirm({
      title: `Release the lock of ${lock.conversation_id}?`,
      says: [
        `The worker of job …${short(lock.ai_job_id)} is fenced out: whatever it still does, it commits nothing.`,
        `The ${count(lock.consolidated_messages, "message")} that it was to answer go to another worker at once, and are answered once. The AI may be asked a second time.`,
        "It is written to the audit.",
      ],
      action: "Release it",
    });
    if (sure) await act(() => call("DELETE", path("admin/locks", lock.conversation_id)), () => `${lock.conversation_id} is free: another worker answers it.`);
  };
  const rows = table(
    "Live locks",
    [
      { title: "Conversation", text: (lock) => lock.conversation_id, class: "id" },
      { title: "Owner job", text: (lock) => `…${short(lock.ai_job_id)}`, class: "id" },
      { title: "Messages", text: (lock) => String(lock.consolidated_messages) },
      { title: "Age", text: (lock) => duration(since(lock.acquired_at)) },
      { title: "Heartbeat", make: () => h("span", { class: "state" }), update: (cell, lock) => {
        const bad = stuck(lock);
        cell.firstChild.className = bad ? "state bad" : "state";
        say(cell.firstChild, `${age(lock.heartbeat_at)}${bad ? " · stuck" : ""}`);
      } },
      { title: "Tier", text: (lock) => lock.tier },
      { title: "What to do", make: (lock) => h("button", { type: "button", "aria-label": `Release ${lock.conversation_id}`, on: { click: release(lock) } }, "Release") },
    ],
    (lock) => `${lock.conversation_id} ${lock.ai_job_id} ${lock.consolidated_messages}`,
    "No conversation is locked: nothing waits, nothing runs.",
  );
  return section("Live locks", { class: "card wide" }, rows.node, async () => {
    const { locks } = await get("admin/locks");
    rows.show([...locks].sort((one, other) => stuck(other) - stuck(one)));
  });
}

function createStatistics() {
  const charts = h("div", { class: "charts" });
  const figures = table(
    "The last minutes in figures",
    [
      { title: "Minute", text: (minute) => new Date(minute.at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }) },
      { title: "Begun", text: (minute) => String(minute.created) },
      { title: "Completed", text: (minute) => String(minute.completed) },
      { title: "Failed", text: (minute) => String(minute.failed) },
      { title: "Cancelled", text: (minute) => String(minute.cancelled) },
      { title: "Median", text: (minute) => duration(minute.median_seconds) },
      { title: "95th percentile", text: (minute) => duration(minute.p95_seconds) },
    ],
    (minute) => minute.at,
    "Nothing is known of the last minutes.",
  );
  const details = h("details", {}, h("summary", {}, "These figures as a table"), figures.node);
  let drawn = "";
  return section("The last minutes", { class: "card wide" }, [charts, details], async () => {
    const { minutes } = await get(`admin/statistics?minutes=${MINUTES}`);
    if (JSON.stringify(minutes) === drawn) return;
    drawn = JSON.stringify(minutes);
    const of = (name) => minutes.map((minute) => minute[name]);
    const times = of("at");
    const bars = (name, values) => ({ name, values, style: "bars" });
    const line = (name, values) => ({ name, values, style: "line" });
    charts.replaceChildren(
      chart({ title: "Jobs a minute", unit: "jobs", times, series: [bars("completed", of("completed")), line("begun", of("created"))] }),
      chart({ title: "Not answered, a minute", unit: "jobs", times, series: [bars("failed", of("failed")), line("cancelled", of("cancelled"))] }),
      chart({ title: "Time to the reply", unit: "s", times, series: [line("median", of("median_seconds")), line("95th percentile", of("p95_seconds"))] }),
    );
    figures.show([...minutes].reverse());
  });
}

function createJobs(act) {
  let status = "";
  let next = null;
  let older = [];
  const retry = (job) => async () => {
    const sure = await confirm({
      title: `Retry job …${short(job.job_id)}?`,
      says: [
        `Another job answers the ${count(job.consolidated_messages, "message")} of ${job.conversation_id} that this one did not; it is the same job if somebody retried it before.`,
        "The failed job stays failed, and leads to the other. The patient, who was told that no answer could be made, gets one now.",
        "It is written to the audit.",
      ],
      action: "Retry it",
    });
    const done = (answer) => (answer.ai_job_id ? `Job …${short(answer.ai_job_id)} answers in its place.` : "It waits until the human hands the conversation back.");
    if (sure) await act(() => call("POST", `${path("admin/jobs", job.job_id)}/retry`), done);
  };
  const outcome = (job) => [job.status, job.error_code, job.superseded_by && `→ …${short(job.superseded_by)}`].filter(Boolean).join(" · ");
  const rows = table(
    "Jobs, the newest first",
    [
      { title: "Job", text: (job) => `…${short(job.job_id)}`, class: "id" },
      { title: "Conversation", text: (job) => job.conversation_id, class: "id" },
      { title: "Bot", text: (job) => job.bot_id, class: "id" },
      { title: "State", make: () => h("span", { class: "state" }), update: (cell, job) => {
        cell.firstChild.className = `state ${{ failed: "bad", completed: "good" }[job.status] ?? ""}`;
        say(cell.firstChild, outcome(job));
      } },
      { title: "Messages", text: (job) => String(job.consolidated_messages) },
      { title: "Restarts", text: (job) => String(job.restarts) },
      { title: "Waited", text: (job) => duration(between(job.created_at, job.started_at)) },
      { title: "Took", text: (job) => duration(between(job.started_at, job.finished_at)) },
      { title: "Begun", text: (job) => `${duration(since(job.created_at))} ago` },
      { title: "What to do", make: (job) => h("button", { type: "button", "aria-label": `Retry job ${job.job_id}`, on: { click: retry(job) } }, "Retry"),
        update: (cell, job) => show(cell.firstChild, job.status === "failed" && !job.superseded_by) },
    ],
    (job) => job.job_id,
    "There are no such jobs.",
  );
  const page = (cursor) => get(`admin/jobs?limit=20${status && `&status=${status}`}${cursor ? `&next=${encodeURIComponent(cursor)}` : ""}`);
  const more = h("button", { type: "button", on: { click: async () => {
    const found = await page(next).catch(() => null);
    if (found) {
      older = [...older, ...found.jobs];
      next = found.next;
    }
    await shown.refresh();
  } } }, "Show older ones");
  const choose = (value) => async () => {
    status = value;
    older = [];
    for (const button of filter.children) button.setAttribute("aria-pressed", String(button.value === status));
    await shown.refresh();
  };
  const filter = h("div", { class: "buttons filter", role: "group", "aria-label": "Jobs by state" },
    STATUSES.map((value) => h("button", { type: "button", value, "aria-pressed": String(value === ""), on: { click: choose(value) } }, value || "all")));
  const shown = section("Jobs", { class: "card wide" }, [filter, rows.node, more], async () => {
    const found = await page(null);
    if (older.length === 0) next = found.next;
    const newest = new Set(found.jobs.map((job) => job.job_id));
    rows.show([...found.jobs, ...older.filter((job) => !newest.has(job.job_id))]);
    show(more, next !== null);
  });
  return shown;
}

function createDeadLetters(act) {
  let found = [];
  const redrive = async () => {
    const sure = await confirm({
      title: "Redrive the dead letters?",
      says: [
        `Deliveries to the platform's webhook that were given up, ${found.length} of them, are tried for another day.`,
        "A platform that got one of them without saying so gets it again, under the same webhook-id.",
        "It is written to the audit.",
      ],
      action: "Redrive them",
    });
    if (sure) await act(() => call("POST", "admin/dead-letters/redrive"), (answer) => `${answer.redriven} tried again.`);
  };
  const button = h("button", { type: "button", on: { click: redrive } }, "Redrive all");
  const rows = table(
    "Dead letters",
    [
      { title: "Conversation", text: (letter) => letter.conversation_id, class: "id" },
      { title: "Job", text: (letter) => `…${short(letter.job_id)}`, class: "id" },
      { title: "Attempts", text: (letter) => String(letter.attempts) },
      { title: "Since", text: (letter) => `${duration(since(letter.created_at))} ago` },
      { title: "Last error", text: (letter) => letter.last_error },
    ],
    (letter) => letter.webhook_id,
    "Every reply has reached its platform, or will.",
  );
  return section("Dead letters", { class: "card wide" }, [rows.node, button], async () => {
    found = (await get("admin/dead-letters")).deliveries;
    rows.show(found);
    show(button, found.length > 0);
  });
}
