// One conversation as a platform sees it: the messages that were sent, and the job that answers each.
//
// A message knows the job that it was promised. A job may name another that answers in its place (`superseded_by`). So
// a message is shown under the job that finally answers it, and moves there when that job is known.
//
// An edit is a message of its own, with the same id. If one job answers several versions, only the newest is shown.

import { Problem, call, get, path, pause } from "./api.js";
import { noticed } from "./health.js";
import { follow, hasEnded } from "./jobs.js";

/** The number of messages in a burst. */
export const BURST = 50;
/** Time between two looks at the archive for a message whose job has ended without it. */
const LOOK_AGAIN_MS = 3000;
/** The debounce of a burst, which takes a moment to arrive. The operator's own value replaces it. */
const BURST_DEBOUNCE_MS = 1500;

/** What the versions of a message share. A duplicate, or a version that was not accepted, is shown by itself. */
export function versionKey(message) {
  const isAlone = message.repeats || ["rejected", "refused", "unheard"].includes(message.state);
  return isAlone ? message : message.id;
}

/** Of each message its newest version, at the place of the first. */
export function newestVersions(messages) {
  return [...new Map(messages.map((message) => [versionKey(message), message])).values()];
}

/** Let no job answer this version: the patient has taken it back. */
function leaveJob(version) {
  Object.assign(version, { state: "said", jobId: null, late: false });
}

export class Conversation {
  #following = new Set();
  #changed = () => {};
  #sent = Promise.resolve();
  #takenOver = new Set(); // the jobs that had not ended when a human took over
  #closed = new AbortController();
  #looking = false;

  constructor(id) {
    this.id = id;
    this.botId = ""; // empty: the conversation's own bot, else the one with the id default
    this.policy = "";
    this.debounce = "";
    this.human = false;
    this.entries = []; // messages, jobs in the order in which they became known, and notes on events
    this.jobs = new Map(); // by id, as the API last showed them
  }

  /** Call `changed` after each change, at most once a frame. */
  watch(changed) {
    let asked = false;
    this.#changed = () => {
      if (!asked) requestAnimationFrame(() => ((asked = false), changed()));
      asked = true;
    };
    this.#changed();
  }

  close() {
    this.#closed.abort();
  }

  /** Show the archived turns of an existing conversation. */
  async load() {
    try {
      const known = await get(path("conversations", this.id));
      this.human = known.status === "handed_off";
      for (const turn of known.turns) this.#archived(turn);
      for (const entry of this.entries.filter(({ jobId }) => jobId && !this.jobs.has(jobId))) {
        // The job has no reply: it was cancelled or has failed, or the message was unsent.
        if (entry.unsent) leaveJob(entry);
        else this.#follow(entry.jobId);
      }
      if (known.pending?.job_id) this.#follow(known.pending.job_id);
    } catch (problem) {
      if (problem.status !== 404) this.#note(problem.message);
    }
    this.#changed();
  }

  #archived({ role, content, message_id: given, job_id: jobId, edited_at: edited, unsent_at: unsent }) {
    if (role === "assistant" && jobId) {
      // The archive holds only the job's id and its reply.
      this.jobs.set(jobId, { job_id: jobId, status: "completed", reply: { content } });
      this.#place(jobId);
    } else {
      const id = given ?? crypto.randomUUID();
      const unnamed = !given; // the platform gave no id, so nothing can be done with the message
      this.entries.push({ kind: "message", id, unnamed, role, text: content, jobId, state: "said", edited, unsent });
      if (role === "user" && jobId && !unsent) this.#place(jobId);
    }
  }

  /** Look again at failed jobs: an operator may have retried them since. */
  lookAgain() {
    for (const id of this.order) if (this.jobs.get(id)?.status === "failed") this.#follow(id);
  }

  /** The ids of the jobs, in the order in which they became known. */
  get order() {
    return this.entries.filter((entry) => entry.kind === "job").map((entry) => entry.id);
  }

  /** Send a message as a patient (`user`) or a human colleague (`sale`), after all earlier ones were sent. */
  say(text, role = "user") {
    if (role === "sale") this.#takeOver();
    const message = this.#add({ role, text });
    this.#sent = this.#sent.then(() => this.#send(message));
  }

  /** Send a burst: all messages at the same time, in any order. */
  burst() {
    for (let number = 1; number <= BURST; number += 1) {
      const text = `Message ${number} of ${BURST}`;
      this.#send(this.#add({ role: "user", text }), this.debounce === "" ? BURST_DEBOUNCE_MS : Number(this.debounce));
    }
  }

  /** The patient's newest accepted message, which a platform might send again. */
  get newest() {
    return this.entries.findLast(
      (entry) => entry.role === "user" && entry.jobId && !entry.repeats && !entry.unnamed,
    );
  }

  /** Send the newest message again with the same id, as a platform does that got no answer. */
  repeat() {
    const { id, text } = this.newest;
    this.#send(this.#add({ id, role: "user", text, repeats: true }));
  }

  /** Whether the patient may edit and unsend this message. If its versions have replies of their own: the newest. */
  isOpen(message) {
    const isAccepted = (entry) => versionKey(entry) === message.id && entry.state !== "sending";
    return !message.unnamed && !message.unsent && this.entries.findLast(isAccepted) === message;
  }

  /** Send a message again with other words, after all earlier ones were sent. */
  edit({ id, jobId }, text) {
    const edited = new Date().toISOString(); // with it, the patient may return to earlier words
    // While it is sent, it is shown in the place of the version that waits.
    const place = this.#ended(this.settledIn(jobId)) ? null : jobId;
    const version = this.#add({ id, role: "user", text, edited, jobId: place });
    this.#sent = this.#sent.then(() => this.#send(version));
  }

  /** Take back all versions of a message. If it was answered, the service's words on that are shown beside it. */
  async unsend({ id }) {
    await this.#try(async () => {
      let note = null;
      try {
        await call("DELETE", path("conversations", this.id, "messages", id));
      } catch (problem) {
        if (problem.status !== 409) throw problem;
        note = problem.message;
      }
      for (const version of this.entries.filter((entry) => versionKey(entry) === id)) {
        Object.assign(version, { unsent: true, note });
        if (!note && this.endOf(version) !== "answered") leaveJob(version);
      }
    });
  }

  async cancel(jobId) {
    await this.#try(async () => {
      await call("DELETE", path("jobs", jobId));
      this.#follow(jobId);
    });
  }

  /** Hand the conversation to a human (`human`), or resume the bot (`bot`). */
  async handOff(to) {
    if (to === "human") this.#takeOver();
    await this.#try(async () => {
      const { body } = await call("POST", path("conversations", this.id, "handoff"), { body: { to } });
      const waiting = this.#waiting();
      this.#note(to === "human" ? "A human has taken over: the bot is silent." : "The bot answers again.");
      if (body.ai_job_id) this.#promise(waiting, body.ai_job_id);
      this.human = body.status === "handed_off";
    });
  }

  /** The messages that wait while a human answers: parked, or of a job that the handoff has cancelled. */
  #waiting() {
    return this.entries.filter(
      (entry) => entry.role === "user" && (entry.state === "held" || this.isTaken(entry.jobId)),
    );
  }

  /** Remember the jobs that run now: the handoff cancels them, and their messages wait. */
  #takeOver() {
    for (const id of this.order) if (!this.#ended(id)) this.#takenOver.add(id);
  }

  /** Whether the handoff to a human has cancelled the job. */
  isTaken(jobId) {
    return this.human && this.#takenOver.has(jobId) && this.jobs.get(jobId)?.status === "cancelled";
  }

  #ended(jobId) {
    const job = this.jobs.get(jobId);
    return Boolean(job) && hasEnded(job);
  }

  /** The job that answers the messages of this one, as far as is known. */
  settledIn(jobId) {
    const seen = new Set();
    let id = jobId;
    while (id && !seen.has(id)) {
      seen.add(id);
      const job = this.jobs.get(id);
      if (!job?.superseded_by || job.status === "completed") return id;
      id = job.superseded_by;
    }
    return id;
  }

  /** How a message ended, in a word; null while its job has not ended. */
  endOf(message) {
    const job = this.jobs.get(this.settledIn(message.jobId));
    if (!job || !hasEnded(job) || message.state === "held") return null;
    if (message.late) return "late";
    if (this.isTaken(job.job_id)) return "held";
    return { completed: "answered", failed: "failed", cancelled: "cancelled" }[job.status];
  }

  #add(message) {
    const entry = { kind: "message", id: crypto.randomUUID(), state: "sending", ...message };
    this.entries.push(entry);
    this.#changed();
    return entry;
  }

  async #send(message, debounce = this.debounce) {
    const { id, role, text, edited } = message;
    const body = { messages: [{ role, content: text, message_id: id, edited_at: edited }] };
    if (this.botId) body.bot_id = this.botId;
    if (this.policy) body.double_texting = this.policy;
    if (debounce !== "") body.debounce_ms = Number(debounce);
    try {
      const answer = await call("POST", path("conversations", this.id, "messages"), { body });
      this.#accepted(message, answer.body);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      const rejected = problem.body?.action === "rejected";
      message.state = rejected ? "rejected" : problem.status === 0 ? "unheard" : "refused";
      message.jobId = null;
      message.note = rejected ? "another message is being answered: send this one again after the reply" : problem.message;
    }
    this.#changed();
  }

  #accepted(message, answer) {
    noticed(answer.degraded === true);
    message.degraded = answer.degraded === true;
    if (answer.status === "handed_off") {
      this.human = true;
      message.state = message.role === "sale" ? "said" : "held";
      return;
    }
    if (answer.status === "nothing_to_answer") {
      message.state = "kept";
      return;
    }
    message.state = { lock_acquired: "accepted", interrupted: "interrupted" }[answer.action] ?? "joined";
    if (answer.duplicate) message.state = "duplicate";
    else if (message.state === "joined" && this.order.some((id) => id !== answer.ai_job_id && !this.#ended(id))) {
      message.state = "waits"; // another job is under way
    }
    this.#promise([message], answer.ai_job_id);
  }

  #promise(messages, jobId) {
    for (const message of messages) {
      if (message.state === "held" || this.isTaken(message.jobId)) message.state = "returned";
      message.jobId = jobId;
    }
    this.#follow(jobId);
  }

  #place(jobId) {
    if (!this.order.includes(jobId)) this.entries.push({ kind: "job", id: jobId });
  }

  #follow(jobId) {
    this.#place(jobId);
    if (this.#following.has(jobId)) return;
    this.#following.add(jobId);
    const update = (job) => {
      this.jobs.set(job.job_id, job);
      this.#place(job.job_id);
      this.#changed();
    };
    const lost = (id, problem) => this.#note(`Job …${id.slice(-6)}: ${problem.message}`);
    follow(jobId, { update, lost, signal: this.#closed.signal }).finally(() => {
      this.#following.delete(jobId);
      this.#findLate();
    });
  }

  /**
   * A store may forget a message, so that its job ends without it. The message's record in the queue brings it back.
   * Until then the message is late; the archive says which job has answered it.
   */
  async #findLate() {
    if (this.#looking) return;
    this.#looking = true;
    while (this.#markLate() && !this.#closed.signal.aborted) {
      try {
        this.#settle((await get(path("conversations", this.id))).turns);
      } catch (problem) {
        if (!(problem instanceof Problem)) throw problem; // else the loop tries again
      }
      this.#changed();
      if (this.#markLate()) await pause(LOOK_AGAIN_MS, this.#closed.signal);
    }
    this.#looking = false;
  }

  /** Mark messages as late if their job answered fewer than it was promised. Returns whether any message is late. */
  #markLate() {
    for (const [jobId, messages] of this.#promised()) {
      const job = this.jobs.get(jobId);
      const short = job?.status === "completed" && (job.superseded_by || job.consolidated_messages < messages.length);
      if (short) for (const message of messages) message.late ??= true; // false: it was found
    }
    return this.entries.some((entry) => entry.late);
  }

  /** The messages of each job, without duplicates. */
  #promised() {
    const own = this.entries.filter((entry) => entry.role === "user" && entry.jobId && !entry.repeats);
    const byJob = Map.groupBy(own, (entry) => this.settledIn(entry.jobId));
    return new Map([...byJob].map(([jobId, messages]) => [jobId, newestVersions(messages)]));
  }

  /** Find late messages among the archived turns. A turn also stands for the versions that its words have replaced. */
  #settle(turns) {
    for (const message of this.entries.filter((entry) => entry.late)) {
      const isNewer = ({ edited_at: edited }) => (edited ?? "") >= (message.edited ?? "");
      const turn = turns.find((one) => one.message_id === message.id && one.job_id && isNewer(one));
      if (!turn) continue;
      message.late = false;
      this.#promise([message], turn.job_id);
    }
  }

  async #try(step) {
    try {
      await step();
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      this.#note(problem.message);
    }
    this.#changed();
  }

  #note(text) {
    this.entries.push({ kind: "note", id: crypto.randomUUID(), text });
    this.#changed();
  }
}
