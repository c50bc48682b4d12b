// The chat view: conversations side by side. In each, the operator plays a patient who writes to a bot.

import { get } from "./api.js";
import { BURST, Conversation } from "./conversation.js";
import { field, h } from "./dom.js";
import { createPane } from "./pane.js";

export function create(root, settings) {
  const panes = h("div", { class: "panes" });
  const conversations = new Set();
  const bots = h("datalist", { id: "bots" });
  const add = (id = "") => {
    const conversation = new Conversation(id || `conv_${crypto.randomUUID().slice(0, 8)}`);
    const pane = createPane(conversation, () => {
      conversations.delete(conversation);
      pane.remove();
    });
    conversations.add(conversation);
    if (id) conversation.load();
    panes.insertBefore(pane, adder);
    return pane;
  };
  const adder = createAdder(add);
  panes.append(adder);
  root.append(introduction(settings.outages), bots, panes);
  add();
  return {
    async shown() {
      for (const conversation of conversations) conversation.lookAgain();
      // Ids to choose from. Without the right to list bots, the operator types one.
      const known = await get("admin/bots").catch(() => ({ bots: [] }));
      const option = (bot) => h("option", { value: bot.bot_id }, bot.name);
      bots.replaceChildren(...known.bots.map(option));
    },
    hidden() {},
  };
}

function introduction(outages) {
  const tip = (title, text) => h("li", {}, h("strong", {}, title), ` ${text}`);
  return h(
    "details",
    { class: "introduction", open: true },
    h("summary", {}, h("h2", {}, "However fast a patient types: one reply, to everything, once")),
    h(
      "p",
      {},
      "Below, you are the patient. Each message gets at once the id of the job that will answer it. A message that ",
      "arrives while the job runs joins it. Messages of one job share a coloured edge, with the one reply below.",
    ),
    h(
      "ul",
      { class: "tips" },
      tip(
        "Type fast.",
        "Send three messages within a second: they join one job. Point at a message to edit or unsend it.",
      ),
      tip(
        `Send ${BURST} at once.`,
        "One lock, and one reply that quotes all of them. A debounce of 1.5 s gives them time to arrive.",
      ),
      tip("Send a duplicate.", "Platforms do so when they get no answer. Nothing is answered twice."),
      outages
        ? tip("Stop a store.", "Operations has buttons that stop Redis, Postgres and the worker. Keep typing.")
        : null,
      tip("Make it slow or fail.", "Write [slow:10] or [fail] in a message to the simulated AI."),
    ),
  );
}

function createAdder(add) {
  const id = h("input", { placeholder: "a new id", autocomplete: "off", spellcheck: "false", maxlength: 255 });
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
    h("p", {}, "Conversations do not wait for each other. Each may have its own bot and policy."),
    field("Conversation id", id, { hint: "Type the id of an existing conversation to continue it." }),
    h("button", { type: "submit" }, "Add a conversation"),
  );
}
