// Who is signed in: by Cognito's authorization code with PKCE (RFC 7636), or by a token that somebody pastes where the
// API runs on this machine. Tokens are kept in the tab's own storage and end with it; none is ever in an address.

const TOKENS = "message-handler.tokens";
const TENANT = "message-handler.tenant";
const BEGUN = "message-handler.sign-in";
const REDIRECT = location.origin + location.pathname;

let settings = null;
let tokens = null;
let refreshing = null;

/** What `GET console/settings.json` says of signing in; null where the API is open. */
export const wanted = () => settings;
export const signedIn = () => tokens !== null;

/**
 * Take up what was begun: the tokens of this tab, or the code that Cognito has sent us back with. Returns what went
 * wrong, for people, or null.
 */
export async function begin(signIn) {
  settings = signIn;
  tokens = JSON.parse(sessionStorage.getItem(TOKENS) ?? "null");
  const answer = new URLSearchParams(location.search);
  if (!answer.has("code") && !answer.has("error")) return null;
  // Out of the address bar and the tab's history, before anything else can look at it.
  history.replaceState(null, "", location.pathname + location.hash);
  const begun = JSON.parse(sessionStorage.getItem(BEGUN) ?? "null");
  sessionStorage.removeItem(BEGUN);
  if (!settings?.token_url) return null;
  // First, also for a refusal: anybody can make a link that says something here.
  if (!begun || begun.state !== answer.get("state")) return "That sign-in was not begun in this tab. Begin it again.";
  if (answer.has("error")) return `The sign-in was refused: ${answer.get("error_description") ?? answer.get("error")}`;
  const got = await asked({
    grant_type: "authorization_code",
    code: answer.get("code"),
    code_verifier: begun.verifier,
    redirect_uri: REDIRECT,
  });
  return got ? null : "The sign-in could not be completed. Begin it again.";
}

/** Leave for Cognito's own page. It comes back here with a code. */
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

/** Forget the tokens, and tell Cognito, where it knows us; then the page begins anew. */
export function signOut() {
  keep(null);
  if (!settings.logout_url) {
    location.reload();
    return;
  }
  const address = new URL(settings.logout_url);
  address.search = new URLSearchParams({ client_id: settings.client_id, logout_uri: REDIRECT });
  location.assign(address);
}

/** Take a token that was pasted. Returns whether it looks like one. */
export function paste(token) {
  const text = token.trim();
  if (!claims(text)) return false;
  keep({ access: text });
  return true;
}

/** The headers that say who calls, and for which tenant. */
export function authorization() {
  if (!tokens) return {};
  const named = tenants().length > 1 ? { "X-Platform-Id": currentTenant() } : {};
  return { Authorization: `Bearer ${tokens.access}`, ...named };
}

/** After a 401: whether there is a new token to try it with. Else nobody is signed in any more. */
export async function refreshed() {
  if (!tokens) return false;
  if (tokens.refresh) {
    const form = { grant_type: "refresh_token", refresh_token: tokens.refresh };
    refreshing ??= asked(form).finally(() => (refreshing = null)); // one for all calls that were refused together
    if (await refreshing) return true;
  }
  keep(null);
  dispatchEvent(new Event("signed-out"));
  return false;
}

/** The tenants that the token is for: a person's groups, a client's scopes. */
export function tenants() {
  const its = tokens && claims(tokens.access);
  if (!its) return ["default"];
  const names = its.sub === its.client_id ? String(its.scope ?? "").split(" ") : [its["cognito:groups"] ?? []].flat();
  return names
    .filter((name) => name.startsWith("tenant/"))
    .map((name) => name.slice("tenant/".length))
    .sort();
}

/** The tenant that calls are for: the one that was chosen in this tab, else the first. */
export function currentTenant() {
  const chosen = sessionStorage.getItem(TENANT);
  return tenants().includes(chosen) ? chosen : (tenants()[0] ?? "default");
}

export const chooseTenant = (name) => sessionStorage.setItem(TENANT, name);

async function asked(form) {
  const body = new URLSearchParams({ client_id: settings.client_id, ...form });
  const response = await fetch(settings.token_url, { method: "POST", body, credentials: "omit" }).catch(() => null);
  if (!response?.ok) return false;
  const answer = await response.json();
  keep({ access: answer.access_token, refresh: answer.refresh_token ?? form.refresh_token });
  return true;
}

function keep(given) {
  tokens = given;
  if (given) sessionStorage.setItem(TOKENS, JSON.stringify(given));
  else sessionStorage.removeItem(TOKENS);
}

/** What a token says. Nobody relies on it here: the API verifies it. */
function claims(token) {
  try {
    const bytes = Uint8Array.from(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")), (c) =>
      c.charCodeAt(0),
    );
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null; // no token at all
  }
}

const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));
const base64url = (bytes) =>
  btoa(String.fromCharCode(...bytes))
    .replace(/\+/g, "-")
    .replace(/\//g, "_")
    .replace(/=/g, "");
