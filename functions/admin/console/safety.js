// The safety view: the conversations in which danger was found, newest first, and the rules that find it. An operator
// takes a conversation, then closes it.

import { call, pages, path, since } from "./api.js";
import { choices, confirm, duration, field, h, keepFocus, say, short, show, table } from "./dom.js";
import { createRules } from "./rules.js";
import { section } from "./section.js";
import { createView } from "./view.js";

/** The states to filter by; the first means all. */
const STATES = ["", "raised", "taken", "closed"];
/** The longest word why. */
const MOST_WHY = 200;

export function create(root) {
  const purpose = "see and take raised conversations, and change the safety rules";
  return createView(root, purpose, (act, tell) => [createRaised(act), createRules(act, tell)]);
}

function createRaised(act) {
  let state = "";
  let shownPages = 1;
  const step = (raised, name, body) => () =>
    call("POST", `${path("admin/safety/raised", raised.job_id)}/${name}`, { body });
  const then = (event, done) => keepFocus(event.target, filter, done);
  const take = (raised) => (event) =>
    then(event, () => act(step(raised, "take"), (taken) => `You care for ${taken.conversation_id} now.`));
  const close = (raised) => async (event) => {
    const why = h("input", { required: true, maxlength: MOST_WHY, autocomplete: "off", autofocus: true });
    const sure = await confirm({
      title: `Close ${raised.conversation_id}?`,
      says: ["It needs no more care. Say why in your own words.", "The audit records who closed it."],
      asks: why,
      label: field("Why", why, { hint: `Never a patient's words. Up to ${MOST_WHY} characters.` }),
      action: "Close it",
    });
    const closing = step(raised, "close", { why: why.value });
    if (sure) await then(event, () => act(closing, (closed) => `${closed.conversation_id} is closed.`));
  };
  const drill = async () => {
    const id = h("input", { required: true, value: "drill-1", autocomplete: "off", autofocus: true });
    const sure = await confirm({
      title: "Raise a drill?",
      says: ["Each place that shows it says that it is a drill. The platform is told of it.", "The audit records it."],
      asks: id,
      label: field("Conversation", id, { hint: "One that has no patient. It is made if it does not exist." }),
      action: "Raise it",
    });
    const raising = () => call("POST", "admin/safety/drill", { body: { conversation_id: id.value.trim() } });
    if (sure) await act(raising, (raised) => `The drill ${raised.conversation_id} is raised.`);
  };
  const button = (text, raised, click) => {
    const name = `${text} ${raised.conversation_id} …${short(raised.job_id)}`;
    return h("button", { type: "button", "aria-label": name, on: { click } }, text);
  };
  const rows = table(
    "Raised conversations, newest first",
    [
      { title: "Conversation", text: (raised) => raised.conversation_id, class: "id" },
      { title: "Notice", text: (raised) => `…${short(raised.job_id)}`, class: "id" },
      {
        title: "Level",
        make: () => [h("span", {}), " ", h("span", { class: "badge warn" }, "drill")],
        update: (cell, raised) => {
          say(cell.children[0], raised.level);
          show(cell.children[1], raised.drill);
        },
      },
      { title: "Rule", text: (raised) => raised.rule, class: "id" },
      { title: "Since", text: (raised) => `${duration(since(raised.raised_at))} ago` },
      {
        title: "State",
        make: () => h("span", { class: "state" }),
        update: (cell, raised) => {
          cell.firstChild.className = `state ${{ raised: "bad", closed: "good" }[raised.state] ?? ""}`;
          say(cell.firstChild, raised.closed_why ? `${raised.state}: ${raised.closed_why}` : raised.state);
        },
      },
      { title: "Taken by", text: (raised) => raised.taken_by ?? "–" },
      {
        title: "Action",
        make: (raised) => [button("Take", raised, take(raised)), button("Close", raised, close(raised))],
        update: (cell, raised) => {
          show(cell.children[0], raised.state === "raised");
          show(cell.children[1], raised.state === "taken");
        },
      },
    ],
    (raised) => raised.job_id,
    "There are no such conversations.",
  );
  const more = h(
    "button",
    {
      type: "button",
      on: {
        click: () => {
          shownPages += 1;
          return shown.refresh();
        },
      },
    },
    "Show older ones",
  );
  const filter = choices("Raised conversations by state", STATES, (value) => {
    state = value;
    shownPages = 1;
    return shown.refresh();
  });
  const ask = () => pages(`admin/safety/raised?limit=20${state && `&state=${state}`}`, "raised", shownPages);
  const draw = ({ list, next }) => {
    rows.show(list);
    show(more, next !== null);
  };
  const practise = h("button", { type: "button", on: { click: drill } }, "Raise a drill");
  const shown = section("Raised conversations", { class: "card wide" }, [filter, rows.node, more, practise], ask, draw);
  return shown;
}
