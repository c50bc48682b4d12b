// The safety view: the conversations in which danger was found, newest first. An operator takes one, then closes it.

import { call, pages, path, since } from "./api.js";
import { choices, confirm, duration, field, h, say, short, show, table } from "./dom.js";
import { section } from "./section.js";
import { createView } from "./view.js";

/** The states to filter by; the first means all. */
const STATES = ["", "raised", "taken", "closed"];
/** The longest word why. */
const MOST_WHY = 200;

export function create(root) {
  return createView(root, "see and take raised conversations", (act) => [createRaised(act)]);
}

function createRaised(act) {
  let state = "";
  let shownPages = 1;
  const step = (raised, name, body) => () =>
    call("POST", `${path("admin/safety/raised", raised.job_id)}/${name}`, { body });
  /** The pressed button goes away: the focus moves on to the next one of its row, or else to the filter. */
  const then = async (event, done) => {
    const cell = event.target.parentNode;
    await done();
    const next = cell.isConnected ? cell.querySelector("button:not([hidden])") : null;
    (next ?? filter.querySelector("[aria-pressed=true]")).focus();
  };
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
  const shown = section("Raised conversations", { class: "card wide" }, [filter, rows.node, more], ask, draw);
  return shown;
}
