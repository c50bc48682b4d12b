// One conversation on the page: its options, its transcript and its actions.

import { BURST } from "./conversation.js";
import { field, h, newId, say, show } from "./dom.js";
import { hasEnded } from "./jobs.js";
import { createTranscript } from "./transcript.js";

const POLICIES = {
  "": "A message that arrives meanwhile: as the bot is configured.",
  consolidate: "A message that arrives meanwhile joins: one reply to all.",
  enqueue: "A message that arrives meanwhile waits for the next reply.",
  interrupt: "A message that arrives meanwhile starts a new job for all.",
  reject: "A message that arrives meanwhile is refused: 409.",
};

/** `remove()` is called when the operator closes the conversation. */
export function createPane(conversation, remove) {
  const title = h("h3", { id: newId("conversation"), class: "id" }, conversation.id);
  const transcript = createTranscript(conversation);
  const nothing = h("p", { class: "note" }, `No messages yet. Type below, or send ${BURST} at once.`);
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
      h(
        "button",
        {
          type: "button",
          class: "quiet",
          "aria-label": `Remove ${conversation.id} from this page`,
          on: { click: close },
        },
        "×",
      ),
    ),
    options(conversation),
    h("div", { class: "said" }, nothing, transcript.node),
    news,
    composer(conversation),
  );
  const buttons = actions(conversation);
  pane.append(buttons.node);
  const human = pane.querySelector(".human");
  const known = new Map();
  conversation.watch(() => {
    show(nothing, !transcript.show());
    show(human, conversation.human);
    buttons.show();
    announce(conversation, known, news);
  });
  return pane;
}

function options(conversation) {
  const bot = h("input", {
    list: "bots",
    placeholder: "default",
    autocomplete: "off",
    spellcheck: "false",
    maxlength: 255,
  });
  bot.addEventListener("input", () => (conversation.botId = bot.value.trim()));
  const policy = h(
    "select",
    {},
    Object.keys(POLICIES).map((value) => h("option", { value }, value || "bot’s")),
  );
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
  const role = h(
    "select",
    {},
    h("option", { value: "user" }, "Patient"),
    h("option", { value: "sale" }, "Human colleague"),
  );
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

/** The actions on a whole conversation. */
function actions(conversation) {
  const button = (text, click) => h("button", { type: "button", on: { click } }, text);
  const repeat = button("Send a duplicate", () => conversation.repeat());
  const handOff = button("Hand off to a human", () => conversation.handOff(conversation.human ? "bot" : "human"));
  return {
    node: h(
      "div",
      { class: "buttons" },
      button(`${BURST} at once`, () => conversation.burst()),
      repeat,
      handOff,
    ),
    show() {
      repeat.disabled = !conversation.newest;
      handOff.disabled = conversation.entries.length === 0;
      say(handOff, conversation.human ? "Hand back to the bot" : "Hand off to a human");
    },
  };
}

/** Announce new replies to screen readers. */
function announce(conversation, known, news) {
  for (const job of conversation.jobs.values()) {
    if (known.get(job.job_id) === job.status) continue;
    known.set(job.job_id, job.status);
    if (hasEnded(job)) say(news, job.reply ? `Reply: ${job.reply.content}` : `The job has ${job.status}.`);
  }
}
