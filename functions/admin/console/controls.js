// The controls of a form: a label, a control, a hint, and a place for an error text.

import { h, newId, say, show } from "./dom.js";

/** A field's label, control, hint and complaint. `blame(text)` shows a complaint, `blame(null)` removes it. */
export function createControl({ name, label, kind, hint = "", values = [] }, cores) {
  const control = controlFor(kind, values, cores);
  control.id = newId("edit");
  control.name = name;
  const advice = h("p", { class: "hint", id: `${control.id}-hint` }, hint);
  const complaint = h("p", { class: "complaint", id: `${control.id}-complaint`, hidden: true });
  control.setAttribute("aria-describedby", `${advice.id} ${complaint.id}`);
  return {
    name,
    kind,
    control,
    node: h(
      "div",
      { class: ["long", "notice", "rules"].includes(kind) ? "field long" : "field" },
      h("label", { for: control.id }, label),
      control,
      complaint,
      hint ? advice : null,
    ),
    blame(text) {
      show(complaint, Boolean(text));
      say(complaint, text ? text.replace(`${name}: `, "") : "");
      if (text) {
        control.setAttribute("aria-invalid", "true");
        control.focus();
      } else control.removeAttribute("aria-invalid");
    },
  };
}

function controlFor(kind, values, cores) {
  const option = (value, words = value) => h("option", { value }, words);
  const plain = { autocomplete: "off", spellcheck: "false" };
  switch (kind) {
    case "long":
    case "notice":
      return h("textarea", { rows: 3 });
    case "json":
    case "rules":
    case "lines":
      return h("textarea", { rows: 2, ...plain });
    case "choice":
      return h(
        "select",
        {},
        option("", "not set"),
        values.map((value) => option(value)),
      );
    case "yes or no":
      return h("select", {}, option("", "not set"), option("true", "yes"), option("false", "no"));
    case "core_ai":
      return h(
        "select",
        {},
        option("", "none"),
        cores.map((core) => option(core.core_ai_id, `${core.name} (${core.core_ai_id})`)),
      );
    case "number":
      return h("input", { inputmode: "decimal", ...plain });
    default:
      return h("input", plain);
  }
}
