// The chat view: conversations side by side, each a platform's patient in front of the same bot or another.

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
      // Names to choose from; who may not list bots types them.
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
      "Below, you are the patient. Each message is answered at once with the id of the job that will answer it; what ",
      "comes while that job runs joins it. Messages with one coloured edge are one job, with one reply beneath.",
    ),
    h(
      "ul",
      { class: "tips" },
      tip("Type fast.", "Send three messages within a second: they join one job."),
      tip(
        `Send ${BURST} at once.`,
        "One lock, one reply that quotes all of them. A debounce of 1.5 s lets them arrive.",
      ),
      tip("Send a duplicate.", "As platforms do when they heard no answer: nothing is answered twice."),
      outages
        ? tip("Take a store away.", "Operations has buttons that stop Redis, Postgres and the worker. Go on typing.")
        : null,
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
