// The safety rules: those in force, their review, and which shipped rules do not apply. Each change names the revision
// that was read, so it never overwrites another operator's.

import { call } from "./api.js";
import { choices, confirm, field, h, keepFocus, say, show, table } from "./dom.js";
import { openEditor } from "./editor.js";
import { section } from "./section.js";

const ADDRESS = "admin/safety";
/** The rules change seldom: they are read again after this time, and after each action. */
const READ_AGAIN_MS = 30_000;
/** What the rules can be filtered by; the first means all. */
const FILTERS = ["", "emergency", "crisis", "urgent", "not applicable"];
const MOST_REASON = 500;
const REVIEWS = {
  missing: "No clinician has reviewed these rules.",
  other_version: "The rules have changed since they were reviewed.",
  old: "The review is older than a year.",
  valid: "Reviewed.",
};

export function createRules(act, tell) {
  let known = null; // the last answer, with its ETag
  let readAt = -Infinity;
  let filter = "";
  const read = async () => {
    if (performance.now() - readAt < READ_AGAIN_MS) return known;
    known = await call("GET", ADDRESS);
    readAt = performance.now();
    return known;
  };
  const write = (changes) => async () => {
    const { body, etag } = known;
    readAt = -Infinity; // the next view reads the rules again, also after an error
    return call("PUT", ADDRESS, { headers: { "If-Match": etag }, body: { ...body.settings, ...changes } });
  };

  const declare = (rule) => async (event) => {
    const why = h("input", { required: true, maxlength: MOST_REASON, autocomplete: "off", autofocus: true });
    const sure = await confirm({
      title: `${rule.id} does not apply?`,
      says: ["No message is checked with this rule any more.", "The audit, the status and this page show your reason."],
      asks: why,
      label: field("Reason", why, { hint: `Up to ${MOST_REASON} characters.` }),
      action: "It does not apply",
    });
    if (sure) await change(event, rule, why.value, `${rule.id} does not apply any more.`);
  };
  const apply = (rule) => (event) => change(event, rule, null, `${rule.id} applies again.`);
  const change = (event, rule, reason, told) => {
    const { [rule.id]: _, ...others } = known.body.settings.not_applicable;
    const declared = reason === null ? others : { ...others, [rule.id]: reason };
    return keepFocus(event.target, filters, () => act(write({ not_applicable: declared }), () => told));
  };
  const sign = async () => {
    const name = h("input", { required: true, maxlength: 200, autocomplete: "off", autofocus: true });
    const day = h("input", { type: "date", value: new Date().toISOString().slice(0, 10) });
    const version = known.body.in_force.rules_version;
    const sure = await confirm({
      title: "Sign the review?",
      says: [`A clinician has read the rules in force: version ${version}.`, "The audit records it."],
      asks: name,
      label: [field("Clinician", name), field("Day of the review", day)],
      action: "Sign it",
    });
    const review = { reviewed_by: name.value, reviewed_at: day.value, rules_version: version };
    if (sure) await act(write({ review }), () => `${name.value} has reviewed the rules.`);
  };
  const edit = async () => {
    const { body, etag } = await call("GET", ADDRESS);
    await openEditor("safety_rules", body.settings, etag, tell, () => {
      readAt = -Infinity;
      return shown.refresh();
    });
  };

  const button = (text, rule, click) =>
    h("button", { type: "button", "aria-label": `${text}: ${rule.id}`, on: { click } }, text);
  const rows = table(
    "Shipped rules",
    [
      { title: "Rule", text: (rule) => rule.id, class: "id" },
      { title: "Level", text: (rule) => rule.level, class: "word" },
      { title: "About", text: (rule) => rule.about },
      { title: "Source", text: (rule) => rule.source ?? "–" },
      { title: "Reviewed by", text: (rule) => rule.reviewed_by ?? "–" },
      {
        title: "Applies",
        make: () => h("span", { class: "state" }),
        update: (cell, { not_applicable: reason }) => {
          cell.firstChild.className = `state ${reason ? "bad" : ""}`;
          say(cell.firstChild, reason ? `no: ${reason}` : "yes");
        },
      },
      {
        title: "Action",
        make: (rule) => [button("Does not apply", rule, declare(rule)), button("Applies again", rule, apply(rule))],
        update: (cell, rule) => {
          show(cell.children[0], rule.not_applicable === null);
          show(cell.children[1], rule.not_applicable !== null);
        },
      },
    ],
    (rule) => rule.id,
    "There are no such rules.",
  );
  const filters = choices("Shipped rules by level", FILTERS, (value) => {
    filter = value;
    return shown.refresh();
  });
  const isShown = (rule) => [rule.level, rule.not_applicable === null ? "" : "not applicable", ""].includes(filter);
  const review = h("p", { class: "notice" });
  const facts = h("p", { class: "muted" });
  const plain = (text, attributes, click) => h("button", { type: "button", ...attributes, on: { click } }, text);
  const buttons = h(
    "div",
    { class: "buttons" },
    plain("Sign the review", { class: "main" }, sign),
    plain("Own rules and languages", {}, edit),
  );
  const draw = ({ body: { settings, in_force: rules, shipped } }) => {
    review.className = `notice ${rules.review === "valid" ? "good" : "warn"}`;
    say(review, [REVIEWS[rules.review], signed(settings.review), lost(rules.refused)].filter(Boolean).join(" "));
    say(facts, described(rules, settings));
    rows.show(shipped.rules.filter(isShown));
  };
  const shown = section("Safety rules", { class: "card wide" }, [review, facts, buttons, filters, rows.node], read, draw);
  return shown;
}

function signed(review) {
  return review && `${review.reviewed_by} signed version ${review.rules_version} on ${review.reviewed_at}.`;
}

function lost(languages) {
  return languages.length ? `Your own rules can't be compiled, and do not count: ${languages.join(", ")}.` : "";
}

function described(rules, { rules: own }) {
  const ids = own.flatMap((language) => language.rules.map((rule) => rule.id));
  return [
    `Version ${rules.rules_version}`,
    `languages ${rules.languages.join(", ")}`,
    ids.length ? `own rules ${ids.join(", ")}` : "no own rules",
    rules.not_applicable.length ? `not applicable ${rules.not_applicable.join(", ")}` : "all shipped rules apply",
  ].join(" · ");
}
