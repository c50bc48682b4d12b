// A part of a view that loads its own data from the API.

import { h, say, show } from "./dom.js";

/**
 * A section that calls `ask()` when it is refreshed and draws the answer, or shows the error in its own place. If several
 * requests are open, only the newest counts: an older answer may be out of date.
 */
export function section(title, attributes, children, ask, draw) {
  const trouble = h("p", { class: "notice warn", hidden: true });
  let asked = 0;
  return {
    node: h("section", attributes, h("h2", {}, title), trouble, children),
    async refresh() {
      asked += 1;
      const mine = asked;
      let answer;
      let problem = null;
      try {
        answer = await ask();
      } catch (error) {
        problem = error;
      }
      if (mine !== asked) return problem;
      if (problem) say(trouble, problem.message);
      else draw(answer);
      show(trouble, Boolean(problem));
      return problem;
    },
  };
}
