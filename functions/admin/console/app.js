// The console: four views of one deployment, and the sign-in.

import { get } from "./api.js";
import * as chat from "./chat.js";
import { field, h } from "./dom.js";
import * as health from "./health.js";
import * as signin from "./signin.js";

/** The first view is part of this file's imports; the others are loaded when they are opened. */
const VIEWS = {
  chat: () => chat,
  operations: () => import("./operations.js"),
  safety: () => import("./safety.js"),
  configuration: () => import("./configuration.js"),
};
const created = {};
let settings = null;
let current = null;

async function start() {
  settings = await get("console/settings.json").catch(() => null);
  if (!settings) {
    document
      .getElementById("chat")
      .append(h("p", { class: "notice bad" }, "The console's settings can't be read. Reload the page."));
    return;
  }
  const problem = await signin.begin(settings.sign_in, settings.idle_seconds);
  addEventListener("signed-out", () => showSignIn("Your sign-in has ended."));
  bindTabs();
  if (settings.sign_in && !signin.signedIn()) showSignIn(problem);
  else showViews();
}

function showViews() {
  document.querySelector(".tabs").hidden = false; // only now do they lead anywhere
  showAccount();
  health.begin();
  const named = location.hash.slice(1);
  open(Object.hasOwn(VIEWS, named) ? named : "chat");
}

async function open(name) {
  created[current]?.hidden();
  current = name;
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const selected = tab.getAttribute("aria-controls") === name;
    tab.setAttribute("aria-selected", String(selected));
    tab.tabIndex = selected ? 0 : -1;
    document.getElementById(tab.getAttribute("aria-controls")).hidden = !selected;
  }
  history.replaceState(null, "", `#${name}`);
  const panel = document.getElementById(name);
  try {
    const view = await VIEWS[name]();
    created[name] ??= view.create(panel, settings);
  } catch {
    panel.replaceChildren(h("p", { class: "notice bad" }, "This view can't be loaded. Reload the page."));
    return;
  }
  if (current === name) created[name].shown();
}

/** Tabs as WAI-ARIA describes them: arrow keys, Home and End move between them. */
function bindTabs() {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const goTo = (tab) => {
    open(tab.getAttribute("aria-controls"));
    tab.focus();
  };
  for (const [number, tab] of tabs.entries()) {
    const places = { ArrowRight: number + 1, ArrowLeft: number - 1 + tabs.length, Home: 0, End: tabs.length - 1 };
    tab.addEventListener("click", () => goTo(tab));
    tab.addEventListener("keydown", (event) => {
      if (!(event.key in places)) return;
      event.preventDefault();
      goTo(tabs[places[event.key] % tabs.length]);
    });
  }
}

function showAccount() {
  const account = document.getElementById("account");
  account.replaceChildren();
  if (!signin.wanted()) return;
  const tenants = signin.tenants();
  if (tenants.length > 1) {
    const choice = h(
      "select",
      {},
      tenants.map((name) => h("option", { value: name }, name)),
    );
    choice.value = signin.currentTenant();
    choice.addEventListener("change", () => {
      signin.chooseTenant(choice.value);
      location.reload();
    });
    account.append(field("Tenant", choice, { unseen: true }));
  } else {
    account.append(h("span", { class: "muted" }, tenants[0] ?? "no tenant"));
  }
  account.append(h("button", { type: "button", class: "quiet", on: { click: signin.signOut } }, "Sign out"));
}

/** Show the sign-in in place of the views. All that the views showed is removed from the page. */
function showSignIn(problem) {
  const paste = signin.wanted()?.paste;
  const trouble = h("p", { class: "notice bad", role: "alert", hidden: !problem }, problem ?? "");
  created[current]?.hidden();
  document.querySelector(".tabs").hidden = true;
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  for (const name of Object.keys(VIEWS)) document.getElementById(name).replaceChildren();
  document
    .getElementById(current ?? "chat")
    .append(h("div", { class: "sign-in card" }, h("h2", {}, "Sign in"), trouble, paste ? pasteForm(trouble) : cognito()));
}

function cognito() {
  return [
    h("p", {}, "The console needs to know who you are. Sign in at this deployment's Cognito."),
    h("button", { type: "button", class: "main", on: { click: () => signin.signIn() } }, "Sign in"),
  ];
}

function pasteForm(trouble) {
  const token = h("textarea", { rows: 4, autocomplete: "off", spellcheck: "false" });
  const submit = (event) => {
    event.preventDefault();
    if (signin.paste(token.value)) location.reload();
    else {
      trouble.textContent = "This is not an access token.";
      trouble.hidden = false;
      token.focus();
    }
  };
  return h(
    "form",
    { on: { submit } },
    h("p", {}, "This host runs with AUTH=1. Make a token on this machine and paste it here:"),
    h("pre", {}, 'make --silent token ARGS="--tenant default --scope messages --scope admin"'),
    field("Access token", token, { hint: "It is kept in this tab only." }),
    h("button", { type: "submit", class: "main" }, "Use it"),
  );
}

start();
