// The text for an operator whose token lacks the scope for a view.

import { h } from "./dom.js";

export function lacksScope(what) {
  return [
    h("h2", {}, "You may not open this view"),
    h(
      "p",
      {},
      `To ${what}, your token needs the scope message-handler/admin and a tenant. It lacks one of them. `,
      "The other views still work.",
    ),
    h(
      "p",
      {},
      "Sign in as another user, or ask the operators of this deployment for access: a person needs the group of ",
      "the tenant in Cognito, a program needs a client with the scope.",
    ),
  ];
}
