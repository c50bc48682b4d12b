// The list of jobs, newest first, with their times. A failed job can be retried.

import { between, call, pages, path, since } from "./api.js";
import { choices, confirm, count, duration, h, say, short, show, table } from "./dom.js";
import { section } from "./section.js";

/** The states to filter by; the first means all. */
const STATUSES = ["", "processing", "completed", "failed", "cancelled"];

/** `act(step, done)` calls the API, shows the outcome and reloads the sections. */
export function createJobs(act) {
  let status = "";
  let shownPages = 1;
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
    [job.status, job.kind === "notice" && job.kind, job.drill && "drill", job.error_code, job.superseded_by && `→ …${short(job.superseded_by)}`].filter(Boolean).join(" · ");
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
  const ask = () => pages(`admin/jobs?limit=20${status && `&status=${status}`}`, "jobs", shownPages);
  const showOlder = () => {
    shownPages += 1;
    return shown.refresh();
  };
  const more = h("button", { type: "button", on: { click: showOlder } }, "Show older jobs");
  const filter = choices("Jobs by state", STATUSES, (value) => {
    status = value;
    shownPages = 1;
    return shown.refresh();
  });
  const draw = ({ list, next }) => {
    rows.show(list);
    show(more, next !== null);
  };
  const shown = section("Jobs", { class: "card wide" }, [filter, rows.node, more], ask, draw);
  return shown;
}
