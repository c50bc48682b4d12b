// A part of a view that asks the API for itself.

import { h, say, show } from "./dom.js";

/** A section that asks the API when it is refreshed, and says in its own place what went wrong. */
export function section(title, attributes, children, ask) {
  const trouble = h("p", { class: "notice warn", hidden: true });
  return {
    node: h("section", attributes, h("h2", {}, title), trouble, children),
    async refresh() {
      try {
        await ask();
        show(trouble, false);
        return null;
      } catch (problem) {
        say(trouble, problem.message);
        show(trouble, true);
        return problem;
      }
    },
  };
}
