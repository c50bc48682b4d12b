// What views of an operator share: sections that are loaded every few seconds, and the outcome of each action.

import { h, say, show } from "./dom.js";
import { lacksScope } from "./refusal.js";

const EVERY_MS = 3000;

/**
 * A view of the sections that `create(act, tell)` makes. `act(step, done)` calls the API, shows the outcome and reloads
 * the sections. `tell(text, bad)` shows an outcome. `purpose`: what the operator's scope is needed for.
 */
export function createView(root, purpose, create) {
  const refusal = h("div", { class: "notice warn", role: "alert", hidden: true });
  const outcome = h("p", { class: "notice good", role: "status", hidden: true });
  const tell = (text, bad = false) => {
    outcome.className = `notice ${bad ? "bad" : "good"}`;
    say(outcome, text);
    show(outcome, true);
  };
  const refreshAll = () => Promise.all(sections.map((section) => section.refresh()));
  const act = async (step, done) => {
    try {
      tell(done((await step()).body));
    } catch (problem) {
      tell(problem.message, true);
    }
    await refreshAll();
  };
  const sections = create(act, tell);
  const body = h(
    "div",
    { class: "cards" },
    sections.map((section) => section.node),
  );
  root.append(refusal, outcome, body);
  let timer = null;
  let watched = false;
  const look = async () => {
    clearTimeout(timer);
    if (document.visibilityState === "visible") await ask();
    // Only after the answers, so that a slow API gets one round of requests at a time.
    clearTimeout(timer);
    if (watched) timer = setTimeout(look, EVERY_MS);
  };
  const ask = async () => {
    const problem = (await refreshAll()).find(Boolean) ?? null;
    const refused = problem?.status === 403;
    show(body, !refused);
    show(refusal, refused);
    if (refused) refusal.replaceChildren(...lacksScope(purpose));
  };
  return {
    shown() {
      watched = true;
      return look();
    },
    hidden() {
      watched = false;
      clearTimeout(timer);
    },
  };
}
