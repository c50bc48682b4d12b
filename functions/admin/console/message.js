// One message of a transcript. A patient's message has buttons: the patient may edit it or take it back.

import { field, h, newId, say, show } from "./dom.js";

const STATES = {
  sending: "sending …",
  accepted: "took the lock",
  joined: "joined the job",
  interrupted: "interrupted the previous job",
  waits: "waits for its turn",
  duplicate: "duplicate: starts nothing",
  rejected: "not accepted",
  refused: "not accepted",
  unheard: "no answer: it may have been accepted",
  held: "stored for a human",
  returned: "stored, then handed back",
  kept: "kept: there is nothing to answer",
  said: "",
  late: "safe in the queue, answered later",
  answered: "answered",
  failed: "failed",
  cancelled: "cancelled",
};

/** A text of blanks and of characters that show nothing. Platforms send it for a photo or a sticker. */
const WORDLESS = /^[\s\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}\u2800]*$/u;
const visible = (text) => (WORDLESS.test(text) ? "[no words]" : text);

/** A note, or a message that is not a patient's. */
export function createEntry(entry) {
  const node =
    entry.kind === "note"
      ? h("p", { class: "note" }, entry.text)
      : h(
          "div",
          { class: `message ${entry.role}` },
          h("p", { dir: "auto" }, visible(entry.text)),
          h("span", { class: "state" }),
        );
  node.show = ({ entry: now }) => {
    if (now.kind === "note") return;
    const who = now.role === "sale" ? "human colleague" : "bot";
    say(node.lastChild, now.note ? `${who} · ${STATES[now.state]}: ${now.note}` : who);
  };
  return node;
}

/** A patient's message. `node.show(message)` shows its newest version. */
export function createMessage(conversation) {
  let message;
  const text = h("p", { dir: "auto", id: newId("message") });
  const state = h("span", { class: "state" });
  const degraded = h("span", { class: "badge warn", hidden: true }, "degraded");
  const button = (name, click) =>
    h("button", { type: "button", class: "quiet", "aria-describedby": text.id, on: { click } }, name);
  const open = () => {
    const close = (focused) => {
      editor.remove();
      show(text, true);
      node.show(message);
      focused.focus();
    };
    const save = (words) => {
      const isSame = words.trim() === message.text.trim();
      if (!isSame) conversation.edit(message, words);
      close(isSame ? edit : composer(node));
    };
    const editor = createEditor(message.text, save, () => close(edit));
    text.before(editor);
    show(text, false);
    show(buttons, false);
    const words = editor.querySelector("textarea");
    words.focus();
    words.setSelectionRange(words.value.length, words.value.length);
  };
  const edit = button("Edit", open);
  const unsend = button("Unsend", () => {
    conversation.unsend(message);
    composer(node).focus();
  });
  const buttons = h("span", { class: "changes" }, edit, unsend);
  const node = h("div", { class: "message user" }, text, state, degraded, buttons);
  node.show = (version) => {
    message = version;
    const end = conversation.endOf(message);
    const facts = [
      STATES[message.state],
      end && message.state !== "duplicate" ? STATES[end] : "",
      message.edited ? "edited" : "",
      message.unsent ? "unsent" : "",
    ];
    const words = facts.filter(Boolean).join(" · ");
    node.dataset.state = message.unsent ? "unsent" : (end ?? message.state);
    say(text, visible(message.text));
    say(state, message.note ? `${words}: ${message.note}` : words);
    show(degraded, Boolean(message.degraded));
    show(buttons, !text.hidden && conversation.isOpen(message));
  };
  return node;
}

/** The form in which the patient edits a message: Enter saves, Escape cancels. */
function createEditor(words, save, cancel) {
  const text = h("textarea", { rows: 1, autocomplete: "off" }, words);
  const submit = (event) => {
    event.preventDefault();
    if (text.value.trim()) save(text.value);
  };
  const keydown = (event) => {
    if (event.isComposing) return;
    if (event.key === "Escape") cancel();
    else if (event.key === "Enter" && !event.shiftKey) submit(event);
  };
  return h(
    "form",
    { class: "edit", on: { submit, keydown } },
    field("New words", text, { unseen: true }),
    h("button", { type: "submit", class: "main" }, "Save"),
    h("button", { type: "button", on: { click: cancel } }, "Cancel"),
  );
}

/** Where the patient goes on after a change. */
function composer(node) {
  return node.closest("article").querySelector(".composer textarea");
}
