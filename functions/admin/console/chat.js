// The chat view: conversations side by side, each a platform's patient in front of the same bot or another.

import { between, get } from "./api.js";
import { BURST, Conversation } from "./conversation.js";
import { count, duration, field, h, newId, say, short, show, sync } from "./dom.js";
import { hasEnded } from "./jobs.js";

const STATES = {
  sending: "sending …",
  accepted: "took the lock",
  joined: "joined the job",
  interrupted: "interrupted the job before",
  waits: "waits for its turn",
  duplicate: "duplicate: starts nothing",
  rejected: "not taken",
  refused: "not taken",
  held: "held for a human",
  returned: "held, then handed back",
  told: "",
  late: "safe in the queue, its turn comes",
  answered: "answered",
  failed: "failed",
  cancelled: "cancelled",
};
const POLICIES = {
  "": "Messages that come meanwhile: as the bot is configured.",
  consolidate: "Messages that come meanwhile join: one reply to all.",
  enqueue: "Messages that come meanwhile wait for the next reply.",
  interrupt: "Messages that come meanwhile begin a new job for all.",
  reject: "Messages that come meanwhile are refused: 409.",
};
/** As many colours as tell a conversation's jobs apart: style.css has them. */
const COLOURS = 6;
/** A group that has more messages shows its last ones, and the others on demand. */
const SHOWN = 6;

export function create(root) {
  const panes = h("div", { class: "panes" });
  const bots = h("datalist", { id: "bots" });
  const add = (id = "") => {
    const conversation = new Conversation(id || `conv_${crypto.randomUUID().slice(0, 8)}`);
    const pane = createPane(conversation, () => pane.remove());
    if (id) conversation.load();
    panes.insertBefore(pane, adder);
    return pane;
  };
  const adder = createAdder(add);
  panes.append(adder);
  root.append(introduction(), bots, panes);
  add();
  return {
    async shown() {
      // Names to choose from; who may not list bots types them.
      const known = await get("admin/bots").catch(() => ({ bots: [] }));
      const option = (bot) => h("option", { value: bot.bot_id }, bot.name);
      bots.replaceChildren(...known.bots.map(option));
    },
    hidden() {},
  };
}

function introduction() {
  const tip = (title, text) => h("li", {}, h("strong", {}, title), ` ${text}`);
  return h(
    "details",
    { class: "introduction", open: true },
    h("summary", {}, h("h2", {}, "However fast a patient types: one reply, to everything, once")),
    h(
      "p",
      {},
      "Below, you are the patient. Each message is answered at once with the id of the job that will answer it; what ",
      "comes while that job runs joins it. Messages with one coloured edge are one job, with one reply beneath.",
    ),
    h(
      "ul",
      { class: "tips" },
      tip("Type fast.", "Send three messages within a second: they join one job."),
      tip(`Send ${BURST} at once.`, "One lock, one reply that quotes all of them. A debounce of 1.5 s lets them arrive."),
      tip("Send a duplicate.", "As platforms do when they heard no answer: nothing is answered twice."),
      tip("Take a store away.", "On this machine, Operations has buttons that stop Redis, Postgres and the worker. Go on typing."),
      tip("Make it slow or fail.", "[slow:10] and [fail] within a message tell the simulated AI to."),
    ),
  );
}

function createAdder(add) {
  const id = h("input", { placeholder: "a new one", autocomplete: "off", spellcheck: "false", maxlength: 255 });
  const submit = (event) => {
    event.preventDefault();
    const pane = add(id.value.trim());
    id.value = "";
    pane.querySelector("textarea").focus();
  };
  return h(
    "form",
    { class: "adder", on: { submit } },
    h("h3", {}, "Another conversation"),
    h("p", {}, "Conversations don't hold each other up. Each may have a bot and a policy of its own."),
    field("Conversation id", id, { hint: "Name one that exists to go on with it." }),
    h("button", { type: "submit" }, "Add a conversation"),
  );
}

function createPane(conversation, remove) {
  const title = h("h3", { id: newId("conversation"), class: "id" }, conversation.id);
  const transcript = h("div", { class: "transcript", tabindex: 0, role: "region", "aria-label": `What was said in ${conversation.id}` });
  const nothing = h("p", { class: "note" }, `Nothing said yet. Type below, or send ${BURST} at once.`);
  const news = h("p", { class: "unseen", role: "status" });
  const close = () => {
    conversation.close();
    remove();
  };
  const pane = h(
    "article",
    { class: "pane", "aria-labelledby": title.id },
    h(
      "header",
      {},
      title,
      h("span", { class: "badge human", hidden: true }, "a human answers"),
      h("button", { type: "button", class: "quiet", "aria-label": `Remove ${conversation.id} from this page`, on: { click: close } }, "×"),
    ),
    options(conversation),
    h("div", { class: "said" }, nothing, transcript),
    news,
    composer(conversation),
  );
  const handOff = actions(conversation);
  pane.append(handOff.node);
  const human = pane.querySelector(".human");
  const known = new Map();
  conversation.watch(() => {
    // Somebody who reads further up is left there.
    const atEnd = transcript.scrollHeight - transcript.scrollTop - transcript.clientHeight < 40;
    const all = groups(conversation);
    sync(transcript, all, (group) => group.key, (group) => createGroup(conversation, group), (node, group) => node.show(group));
    if (atEnd) transcript.scrollTop = transcript.scrollHeight;
    show(nothing, all.length === 0);
    show(human, conversation.human);
    handOff.show();
    announce(conversation, known, news);
  });
  return pane;
}

function options(conversation) {
  const bot = h("input", { list: "bots", placeholder: "default", autocomplete: "off", spellcheck: "false", maxlength: 255 });
  bot.addEventListener("input", () => (conversation.botId = bot.value.trim()));
  const policy = h("select", {}, Object.keys(POLICIES).map((value) => h("option", { value }, value || "bot’s")));
  const means = h("p", { class: "hint", id: newId("policy") }, POLICIES[""]);
  policy.setAttribute("aria-describedby", means.id);
  policy.addEventListener("change", () => {
    conversation.policy = policy.value;
    say(means, POLICIES[policy.value]);
  });
  const quiet = h("input", { type: "number", min: 0, max: 10000, step: 100, placeholder: "bot’s" });
  quiet.addEventListener("input", () => (conversation.debounce = quiet.value));
  return h(
    "div",
    { class: "options" },
    field("Bot", bot),
    field("Double texting", policy),
    field("Debounce, ms", quiet),
    means,
  );
}

function composer(conversation) {
  const text = h("textarea", { rows: 1, placeholder: "Press Enter to send", autocomplete: "off" });
  const role = h("select", {}, h("option", { value: "user" }, "Patient"), h("option", { value: "sale" }, "Human colleague"));
  const send = () => {
    if (!text.value.trim()) return;
    conversation.say(text.value, role.value);
    text.value = "";
    text.focus();
  };
  text.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
  const submit = (event) => {
    event.preventDefault();
    send();
  };
  return h(
    "form",
    { class: "composer", on: { submit } },
    field("Speak as", role, { unseen: true }),
    field(`Message in ${conversation.id}`, text, { unseen: true }),
    h("button", { type: "submit", class: "main" }, "Send"),
  );
}

/** What can be done with a conversation as a whole. */
function actions(conversation) {
  const button = (text, click) => h("button", { type: "button", on: { click } }, text);
  const repeat = button("Send a duplicate", () => conversation.repeat());
  const handOff = button("Hand off to a human", () => conversation.handOff(conversation.human ? "bot" : "human"));
  return {
    node: h("div", { class: "buttons" }, button(`${BURST} at once`, () => conversation.burst()), repeat, handOff),
    show() {
      repeat.disabled = !conversation.newest;
      handOff.disabled = conversation.entries.length === 0;
      say(handOff, conversation.human ? "Hand back to the bot" : "Hand off to a human");
    },
  };
}

/** Replies, as they come, for those who don't see them. */
function announce(conversation, known, news) {
  for (const job of conversation.jobs.values()) {
    if (known.get(job.job_id) === job.status) continue;
    known.set(job.job_id, job.status);
    if (hasEnded(job)) say(news, job.reply ? `Reply: ${job.reply.content}` : `The job has ${job.status}.`);
  }
}

/** What is shown, in order: messages under the job that answers them, and by themselves what has no job. */
function groups(conversation) {
  const messagesOf = new Map();
  const jobOf = (entry) => (entry.role === "user" && entry.state !== "held" ? conversation.settledIn(entry.jobId) : null);
  for (const entry of conversation.entries) {
    const jobId = jobOf(entry);
    if (jobId) messagesOf.set(jobId, [...(messagesOf.get(jobId) ?? []), entry]);
  }
  const shown = [];
  for (const entry of conversation.entries) {
    if (entry.kind === "job") {
      // A job whose messages have gone to another, and that has said nothing, is no longer of interest.
      const messages = messagesOf.get(entry.id) ?? [];
      if (messages.length || conversation.jobs.get(entry.id)?.reply) shown.push({ key: entry.id, jobId: entry.id, messages });
    } else if (entry.kind === "note" || entry.role !== "user") shown.push({ key: entry, entry });
    else if (!jobOf(entry)) shown.push({ key: entry, messages: [entry] });
  }
  return shown;
}

function createGroup(conversation, { entry, jobId }) {
  if (entry) return createEntry(entry);
  const messages = h("div", { class: "messages" });
  const earlier = h("details", { hidden: true }, h("summary", {}), h("div", { class: "messages" }));
  const head = h("p", { class: "job-head", hidden: !jobId });
  const label = h("span", {});
  const cancel = h("button", { type: "button", class: "quiet", on: { click: () => conversation.cancel(jobId) } }, "Cancel");
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

function createEntry(entry) {
  const node =
    entry.kind === "note"
      ? h("p", { class: "note" }, entry.text)
      : h("div", { class: `message ${entry.role}` }, h("p", { dir: "auto" }, entry.text), h("span", { class: "state" }));
  node.show = ({ entry: now }) => {
    if (now.kind === "note") return;
    const who = now.role === "sale" ? "human colleague" : "bot";
    say(node.lastChild, now.note ? `${who} · ${STATES[now.state]}: ${now.note}` : who);
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
  const create = (message) =>
    h("div", { class: "message user" }, h("p", { dir: "auto" }, message.text), h("span", { class: "state" }), h("span", { class: "badge warn", hidden: true }, "degraded"));
  const update = (node, message) => {
    const end = conversation.endOf(message);
    node.dataset.state = end ?? message.state;
    const [, told, degraded] = node.children;
    const words = [STATES[message.state], end && message.state !== "duplicate" ? STATES[end] : ""].filter(Boolean).join(" · ");
    say(told, message.note ? `${words}: ${message.note}` : words);
    show(degraded, Boolean(message.degraded));
  };
  sync(parent, messages, (message) => message, create, update);
}

function showReply(node, job) {
  const failed = job?.status === "failed";
  const text = job?.reply?.content ?? (failed ? (job.error?.notice ?? "No answer could be made.") : job?.progress?.text);
  show(node, Boolean(text));
  node.classList.toggle("partial", Boolean(text) && !hasEnded(job));
  node.classList.toggle("failed", failed);
  say(node, text ?? "");
  // A long one scrolls in itself, and so must be reachable by keyboard.
  node.tabIndex = text && node.scrollHeight > node.clientHeight + 1 ? 0 : -1;
}
