// The sign-in: with Cognito's authorization code and PKCE (RFC 7636), or with a pasted token if the API runs on this
// machine. Tokens are kept in the tab's own storage and end with it, or after a time without a touch. No token is ever part
// of an address.

const TOKENS = "message-handler.tokens";
const TENANT = "message-handler.tenant";
const BEGUN = "message-handler.sign-in";
const REST = "message-handler.signed-out";
const TOUCHES = ["pointerdown", "pointermove", "wheel", "keydown"];
const REDIRECT = location.origin + location.pathname;

let settings = null;
let tokens = null;
let refreshing = null;
let idleSeconds = 0;

/** The `sign_in` of `GET console/settings.json`; null if the API needs no token. */
export const wanted = () => settings;
export const signedIn = () => tokens !== null;

/**
 * Continue with the tokens of this tab, or with the code that Cognito has added to the address. Returns an error text
 * for people, or null. Without a touch for `idle` seconds the operator is signed out.
 */
export async function begin(signIn, idle) {
  settings = signIn;
  idleSeconds = idle;
  tokens = JSON.parse(sessionStorage.getItem(TOKENS) ?? "null");
  const rested = sessionStorage.getItem(REST);
  sessionStorage.removeItem(REST);
  if (settings) watch();
  const answer = new URLSearchParams(location.search);
  if (!answer.has("code") && !answer.has("error")) return rested;
  // Remove the code from the address bar and the history before any other code runs.
  history.replaceState(null, "", location.pathname + location.hash);
  const begun = JSON.parse(sessionStorage.getItem(BEGUN) ?? "null");
  sessionStorage.removeItem(BEGUN);
  if (!settings?.token_url) return null;
  // First, also for an error: any web page can link here with a text of its own.
  if (!begun || begun.state !== answer.get("state")) return "This sign-in was not started in this tab. Sign in again.";
  if (answer.has("error")) return `The sign-in was refused: ${answer.get("error_description") ?? answer.get("error")}`;
  const succeeded = await requestTokens({
    grant_type: "authorization_code",
    code: answer.get("code"),
    code_verifier: begun.verifier,
    redirect_uri: REDIRECT,
  });
  return succeeded ? null : "The sign-in could not be completed. Sign in again.";
}

/** Go to Cognito's own page, which comes back here with a code. */
export async function signIn() {
  const state = random();
  const verifier = random();
  sessionStorage.setItem(BEGUN, JSON.stringify({ state, verifier }));
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  const address = new URL(settings.authorize_url);
  address.search = new URLSearchParams({
    response_type: "code",
    client_id: settings.client_id,
    redirect_uri: REDIRECT,
    scope: [settings.scopes].flat().join(" "),
    state,
    code_challenge: base64url(new Uint8Array(digest)),
    code_challenge_method: "S256",
  });
  location.assign(address);
}

/** Forget the tokens, end them and the sign-in at Cognito if that is in use, and load the page again. */
export function signOut() {
  const refresh = tokens?.refresh;
  keep(null);
  dispatchEvent(new Event("signed-out")); // removes all that was shown, also from the copy that the browser keeps for "back"
  if (refresh) {
    const body = new URLSearchParams({ client_id: settings.client_id, token: refresh });
    // Without reading the answer: the request outlives this page, and the operator leaves in any case.
    const how = { method: "POST", body, mode: "no-cors", credentials: "omit", keepalive: true };
    fetch(settings.revoke_url, how).catch(() => null);
  }
  if (!settings.logout_url) {
    location.reload();
    return;
  }
  const address = new URL(settings.logout_url);
  address.search = new URLSearchParams({ client_id: settings.client_id, logout_uri: REDIRECT });
  location.assign(address);
}

/** Sign out after a time without a touch, also if this machine slept meanwhile or the browser has restored the tab. */
function watch() {
  const look = () => {
    if (!tokens || Date.now() - tokens.touched < idleSeconds * 1000) return;
    const minutes = Math.round(idleSeconds / 60);
    sessionStorage.setItem(REST, `You were signed out after ${minutes === 1 ? "a minute" : `${minutes} minutes`} without a touch.`);
    signOut();
  };
  const touch = () => {
    look(); // first: the touch that wakes a machine comes too late
    if (tokens && Date.now() - tokens.touched > 1000) keep(tokens);
  };
  for (const kind of TOUCHES) addEventListener(kind, touch, { capture: true, passive: true });
  addEventListener("visibilitychange", look);
  setInterval(look, 1000);
  look();
}

/** Use a pasted token. Returns whether it looks like one. */
export function paste(token) {
  const text = token.trim();
  if (!claims(text)) return false;
  keep({ access: text });
  return true;
}

/** The headers that name the caller and the tenant. */
export function authorization() {
  if (!tokens) return {};
  const named = tenants().length > 1 ? { "X-Platform-Id": currentTenant() } : {};
  return { Authorization: `Bearer ${tokens.access}`, ...named };
}

/** After a 401: get a new token. Returns whether there is one; if not, the operator is signed out. */
export async function refreshed() {
  if (!tokens) return false;
  if (tokens.refresh) {
    const form = { grant_type: "refresh_token", refresh_token: tokens.refresh };
    refreshing ??= requestTokens(form).finally(() => (refreshing = null)); // one request for all calls that failed together
    if (await refreshing) return true;
  }
  keep(null);
  dispatchEvent(new Event("signed-out"));
  return false;
}

/** The tenants of the token: a person's groups, or a client's scopes. */
export function tenants() {
  const held = tokens && claims(tokens.access);
  if (!held) return ["default"];
  const names = held.sub === held.client_id ? String(held.scope ?? "").split(" ") : [held["cognito:groups"] ?? []].flat();
  return names
    .filter((name) => name.startsWith("tenant/"))
    .map((name) => name.slice("tenant/".length))
    .sort();
}

/** The tenant of the calls: the one that was chosen in this tab, else the first. */
export function currentTenant() {
  const chosen = sessionStorage.getItem(TENANT);
  return tenants().includes(chosen) ? chosen : (tenants()[0] ?? "default");
}

export const chooseTenant = (name) => sessionStorage.setItem(TENANT, name);

async function requestTokens(form) {
  const body = new URLSearchParams({ client_id: settings.client_id, ...form });
  const response = await fetch(settings.token_url, { method: "POST", body, credentials: "omit" }).catch(() => null);
  if (!response?.ok) return false;
  const answer = await response.json();
  if (form.refresh_token && !tokens) return false; // the operator has signed out meanwhile
  const touched = tokens?.touched ?? Date.now(); // a refresh is no touch
  keep({ access: answer.access_token, refresh: answer.refresh_token ?? form.refresh_token }, touched);
  return true;
}

function keep(given, touched = Date.now()) {
  tokens = given && { ...given, touched };
  if (given) sessionStorage.setItem(TOKENS, JSON.stringify(tokens));
  else sessionStorage.removeItem(TOKENS);
}

/** The claims of a token, not verified: the API does that. Null if it is not a token. */
function claims(token) {
  try {
    const bytes = Uint8Array.from(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")), (c) =>
      c.charCodeAt(0),
    );
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
}

const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));
const base64url = (bytes) =>
  btoa(String.fromCharCode(...bytes))
    .replace(/\+/g, "-")
    .replace(/\//g, "_")
    .replace(/=/g, "");
