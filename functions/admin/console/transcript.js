// The transcript of a conversation: messages under the job that answers them, with its one reply below.

import { between } from "./api.js";
import { newestVersions, versionKey } from "./conversation.js";
import { count, duration, h, say, short, show, sync } from "./dom.js";
import { hasEnded } from "./jobs.js";
import { createEntry, createMessage } from "./message.js";

/** The number of colours for jobs in style.css. */
const COLOURS = 6;
/** The number of messages that a group shows; earlier ones are shown on demand. */
const SHOWN = 6;

/** A scrolling region: `{ node, show() }`. `show()` returns whether there is anything in it. */
export function createTranscript(conversation) {
  const name = `Transcript of ${conversation.id}`;
  const node = h("div", { class: "transcript", tabindex: 0, role: "region", "aria-label": name });
  const create = (group) => createGroup(conversation, group);
  const update = (groupNode, group) => groupNode.show(group);
  const keyOf = (group) => group.key;
  return {
    node,
    show() {
      // Scroll to the end only if the reader was there already.
      const atEnd = node.scrollHeight - node.scrollTop - node.clientHeight < 40;
      const shown = groups(conversation);
      sync(node, shown, keyOf, create, update);
      if (atEnd) node.scrollTop = node.scrollHeight;
      return shown.length > 0;
    },
  };
}

/**
 * The groups in order: messages under the job that answers them, and each message without a job by itself. The newest
 * version stands for those that it replaces.
 */
function groups(conversation) {
  const messagesOf = new Map();
  const jobOf = (entry) => (entry.state === "held" ? null : conversation.settledIn(entry.jobId));
  for (const entry of conversation.entries) {
    if (entry.role !== "user") continue;
    const place = jobOf(entry) ?? entry.id;
    messagesOf.set(place, [...(messagesOf.get(place) ?? []), entry]);
  }
  const shown = [];
  for (const entry of conversation.entries) {
    if (entry.kind === "job") {
      // A job without messages and without a reply is not shown: another job has taken its messages.
      const messages = newestVersions(messagesOf.get(entry.id) ?? []);
      const said = messages.length > 0 || conversation.jobs.get(entry.id)?.reply;
      if (said) shown.push({ key: entry.id, jobId: entry.id, messages });
    } else if (entry.kind === "note" || entry.role !== "user") shown.push({ key: entry, entry });
    else if (messagesOf.get(entry.id)?.[0] === entry) {
      shown.push({ key: entry, messages: newestVersions(messagesOf.get(entry.id)) });
    }
  }
  return shown;
}

function createGroup(conversation, { entry, jobId }) {
  if (entry) return createEntry(entry);
  const messages = h("div", { class: "messages" });
  const earlier = h("details", { hidden: true }, h("summary", {}), h("div", { class: "messages" }));
  const head = h("p", { class: "job-head", hidden: !jobId });
  const label = h("span", {});
  const cancel = h(
    "button",
    { type: "button", class: "quiet", on: { click: () => conversation.cancel(jobId) } },
    "Cancel",
  );
  head.append(h("span", { class: "dot", "aria-hidden": "true" }), label, cancel);
  const reply = h("div", { class: "reply", hidden: true, dir: "auto", tabindex: -1 });
  const colour = jobId ? `job-${Math.max(0, conversation.order.indexOf(jobId)) % COLOURS}` : "job-none";
  const node = h("section", { class: `group ${colour}` }, head, earlier, messages, reply);
  if (jobId) head.title = jobId;
  node.show = (group) => {
    const job = conversation.jobs.get(jobId);
    const cut = Math.max(0, group.messages.length - SHOWN);
    show(earlier, cut > 0);
    say(earlier.firstChild, `${count(cut, "earlier message")} of the same job`);
    syncMessages(earlier.lastChild, group.messages.slice(0, cut), conversation);
    syncMessages(messages, group.messages.slice(cut), conversation);
    say(label, heading(conversation, jobId, job, group.messages));
    show(cancel, Boolean(job) && !hasEnded(job));
    node.classList.toggle("live", Boolean(job) && !hasEnded(job));
    showReply(reply, job);
  };
  return node;
}

function heading(conversation, jobId, job, messages) {
  const parts = [`job …${short(jobId ?? "")}`];
  const answers = new Set(messages.map((message) => message.id)).size;
  if (answers) parts.push(job?.reply ? `${count(answers, "message")} → 1 reply` : count(answers, "message"));
  if (job?.restarts) parts.push(count(job.restarts, "restart"));
  if (job && !hasEnded(job)) parts.push(job.status === "pending" ? "waits for a worker" : "the AI is at work …");
  if (job?.finished_at) parts.push(duration(between(job.created_at, job.finished_at)));
  if (job?.status === "cancelled") parts.push(conversation.isTaken(jobId) ? "stopped: a human answers" : "cancelled");
  if (job?.status === "completed" && job.superseded_by) parts.push(`the rest: job …${short(job.superseded_by)}`);
  return parts.join(" · ");
}

function syncMessages(parent, messages, conversation) {
  const create = () => createMessage(conversation);
  sync(parent, messages, versionKey, create, (node, message) => node.show(message));
}

function showReply(node, job) {
  const failed = job?.status === "failed";
  const text =
    job?.reply?.content ?? (failed ? (job.error?.notice ?? "There is no answer.") : job?.progress?.text);
  show(node, Boolean(text));
  node.classList.toggle("partial", Boolean(text) && !hasEnded(job));
  node.classList.toggle("failed", failed);
  say(node, text ?? "");
  // A long reply scrolls by itself, so it must be reachable by keyboard.
  node.tabIndex = text && node.scrollHeight > node.clientHeight + 1 ? 0 : -1;
}
