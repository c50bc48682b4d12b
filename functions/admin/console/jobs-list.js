// The list of jobs, newest first, with their times. A failed job can be retried.

import { between, call, get, path, since } from "./api.js";
import { confirm, count, duration, h, say, short, show, table } from "./dom.js";
import { section } from "./section.js";

/** The states to filter by; the first means all. */
const STATUSES = ["", "processing", "completed", "failed", "cancelled"];

/** `act(step, done)` calls the API, shows the outcome and reloads the sections. */
export function createJobs(act) {
  let status = "";
  let pages = 1;
  const retry = (job) => async () => {
    const sure = await confirm({
      title: `Retry job …${short(job.job_id)}?`,
      says: [
        `A new job answers the ${count(job.consolidated_messages, "message")} of this one, in ${job.conversation_id}.`,
        "The failed job stays failed and names the new one. A second retry names the same one.",
        "The patient was told that there is no answer, and now gets one.",
        "The audit records it.",
      ],
      action: "Retry it",
    });
    const done = (answer) =>
      answer.ai_job_id
        ? `Job …${short(answer.ai_job_id)} answers in its place.`
        : "The messages wait: a human answers this conversation.";
    if (sure) await act(() => call("POST", `${path("admin/jobs", job.job_id)}/retry`), done);
  };
  const outcome = (job) =>
    [job.status, job.kind === "notice" && job.kind, job.error_code, job.superseded_by && `→ …${short(job.superseded_by)}`].filter(Boolean).join(" · ");
  const rows = table(
    "Jobs, newest first",
    [
      { title: "Job", text: (job) => `…${short(job.job_id)}`, class: "id" },
      { title: "Conversation", text: (job) => job.conversation_id, class: "id" },
      { title: "Bot", text: (job) => job.bot_id, class: "id" },
      {
        title: "State",
        make: () => h("span", { class: "state" }),
        update: (cell, job) => {
          cell.firstChild.className = `state ${{ failed: "bad", completed: "good" }[job.status] ?? ""}`;
          say(cell.firstChild, outcome(job));
        },
      },
      { title: "Messages", text: (job) => String(job.consolidated_messages) },
      { title: "Restarts", text: (job) => String(job.restarts) },
      { title: "Waited", text: (job) => duration(between(job.created_at, job.started_at)) },
      { title: "Took", text: (job) => duration(between(job.started_at, job.finished_at)) },
      { title: "Begun", text: (job) => `${duration(since(job.created_at))} ago` },
      {
        title: "Action",
        make: (job) =>
          h("button", { type: "button", "aria-label": `Retry job ${job.job_id}`, on: { click: retry(job) } }, "Retry"),
        update: (cell, job) => show(cell.firstChild, job.status === "failed" && !job.superseded_by),
      },
    ],
    (job) => job.job_id,
    "There are no such jobs.",
  );
  /** The pages that are shown, each loaded again: `{ jobs, next }`. */
  const ask = async () => {
    const jobs = [];
    let next = null;
    for (let number = 0; number < pages && (number === 0 || next); number += 1) {
      const cursor = next ? `&next=${encodeURIComponent(next)}` : "";
      const page = await get(`admin/jobs?limit=20${status && `&status=${status}`}${cursor}`);
      jobs.push(...page.jobs);
      next = page.next;
    }
    return { jobs, next };
  };
  const showOlder = () => {
    pages += 1;
    return shown.refresh();
  };
  const more = h("button", { type: "button", on: { click: showOlder } }, "Show older jobs");
  const choose = (value) => () => {
    status = value;
    pages = 1;
    for (const button of filter.children) button.setAttribute("aria-pressed", String(button.value === status));
    return shown.refresh();
  };
  const filter = h(
    "div",
    { class: "buttons filter", role: "group", "aria-label": "Jobs by state" },
    STATUSES.map((value) =>
      h(
        "button",
        { type: "button", value, "aria-pressed": String(value === ""), on: { click: choose(value) } },
        value || "all",
      ),
    ),
  );
  const draw = ({ jobs, next }) => {
    rows.show(jobs);
    show(more, next !== null);
  };
  const shown = section("Jobs", { class: "card wide" }, [filter, rows.node, more], ask, draw);
  return shown;
}
