// A part of a view that asks the API for itself.

import { h, say, show } from "./dom.js";

/**
 * A section that asks the API when it is refreshed, draws what `ask()` resolves to, and says in its own place what went
 * wrong. Of several questions under way the newest counts: an older answer is none of the present.
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
