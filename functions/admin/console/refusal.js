// What somebody is told, and can do, whose token lacks the scope for a view.

import { h } from "./dom.js";

export function lacksScope(what) {
  return [
    h("h2", {}, "Your sign-in may not do this"),
    h(
      "p",
      {},
      `To ${what}, a token needs the scope message-handler/admin and a tenant; yours lacks one of them. `,
      "What it allows goes on working.",
    ),
    h(
      "p",
      {},
      "Sign out, and in again as somebody who has it, or ask whoever runs this deployment: people need the group ",
      "of their tenant in Cognito, programs a client with the scope.",
    ),
  ];
}
