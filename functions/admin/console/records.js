// The fields of a bot, an AI core and a platform, as fields of a form. The page checks no value: the API does, and names
// the wrong field.

const number = (name, label, hint) => ({ name, label, hint, kind: "number" });
const text = (name, label, hint) => ({ name, label, hint, kind: "text" });
const long = (name, label, hint) => ({ name, label, hint, kind: "long" });
const choice = (name, label, values, hint) => ({ name, label, values, hint, kind: "choice" });
const lines = (name, label, hint) => ({ name, label, hint, kind: "lines" });
const json = (name, label, hint) => ({ name, label, hint, kind: "json" });
const yesNo = (name, label, hint) => ({ name, label, hint, kind: "yes or no" });

/**
 * `derived`: fields that the API computes, and that are not sent. `facts`: the texts of a record in the list. A kind
 * without an `idField` has one record: the API shows it at `path`, in the field `part`.
 */
export const KINDS = {
  bots: {
    path: "admin/bots",
    idField: "bot_id",
    noun: "bot",
    title: "Bots",
    about: "A bot answers with an AI core. The bot with the id default answers if a message names none.",
    fields: [
      text("name", "Name", "Platforms get this name with each accepted message."),
      long("description", "Description"),
      text("language", "Language", "Such as vi, en or pt-BR."),
      yesNo("is_active", "Active", "An inactive bot accepts no messages: 409."),
      { name: "core_ai_id", label: "AI core", kind: "core_ai", hint: "None: the simulated AI." },
      choice(
        "meta_data.double_texting",
        "Double texting",
        ["consolidate", "enqueue", "interrupt", "reject"],
        "What happens to a message that arrives while another is answered. Not set: consolidate.",
      ),
      number("meta_data.debounce_ms", "Debounce, ms", "Quiet time before the AI is asked: 0 to 10000. 0: off. Not set: 500."),
      number("meta_data.debounce_max_ms", "Debounce limit, ms", "The longest wait for one burst: 0 to 30000. Not set: 10000."),
      number("meta_data.max_context_messages", "Messages shown to the AI", "Not set: 20."),
      number("meta_data.max_context_characters", "Characters shown to the AI", "Not set: 10000."),
      yesNo("meta_data.show_partial_reply", "Show the reply while it is written"),
      text("meta_data.country", "Country", "Of its patients, such as VN."),
      choice(
        "meta_data.after_danger",
        "After danger",
        ["answer", "silent", "human"],
        "Who answers an emergency or a crisis, after its notice. Not set: answer, so the bot does. silent: no AI is asked.",
      ),
      {
        name: "meta_data.failure_message",
        label: "Notice to the patient when a job fails",
        kind: "notice",
        hint: 'One text, or a text for each language: {"en": "…", "vi": "…"}',
      },
      {
        name: "meta_data.disclosure",
        label: "What the bot says about itself",
        kind: "notice",
        hint: "That it is an AI, and how to reach a person. One text, or a text for each language.",
      },
      number("meta_data.disclosure_every", "Replies from one disclosure to the next", "1: each reply has it. Not set: 20."),
      number("meta_data.disclosure_hours", "Hours from one disclosure to the next", "1 to 8760. Not set: the replies count alone."),
    ],
    derived: [],
    facts: (bot) => [
      bot.is_active ? "" : "inactive",
      bot.language,
      bot.core_ai_id ?? "simulated AI",
      bot.meta_data.double_texting,
    ],
  },
  core_ai: {
    path: "admin/core-ai",
    idField: "core_ai_id",
    noun: "AI core",
    title: "AI cores",
    about: "A source of replies: a chat completions endpoint, a model at Bedrock, or the simulated AI.",
    fields: [
      text("name", "Name"),
      text(
        "api_endpoint",
        "Endpoint",
        "Its scheme chooses the provider, such as https:// and the full chat completions address, or bedrock:// and a model.",
      ),
      {
        name: "auth_token",
        label: "Token",
        kind: "secret",
        hint: "The ARN of a secret. The stored one is never shown; *** keeps it.",
      },
      number("timeout_seconds", "Timeout, seconds", "For a whole answer, all tries included: 1 to 100."),
      text("meta_data.model", "Model"),
      number("meta_data.temperature", "Temperature", "0 to 2."),
      number("meta_data.top_p", "Top p", "Above 0, to 1."),
      number("meta_data.max_tokens", "Max tokens", "Set this or the next field, whichever the provider supports."),
      number("meta_data.max_completion_tokens", "Max completion tokens"),
      long("meta_data.system_prompt", "System prompt"),
      number("meta_data.max_reply_characters", "Longest reply, characters", "Not set: 20000."),
      number("meta_data.max_resources_characters", "Longest resources, characters"),
      choice("meta_data.auth_header", "Header for the token", ["authorization", "api-key"]),
      choice("meta_data.system_role", "Role of the instructions", ["system", "developer", "user"]),
      lines("meta_data.omit", "Fields to leave out", "That the server does not know, one on a line: stream_options."),
      json("meta_data.extra_body", "Fields to add", 'A JSON object, such as {"top_k": 20}.'),
      lines("meta_data.reasoning_tags", "Reasoning tags", "One on a line, without brackets. Not set: think."),
      yesNo("meta_data.reasoning_starts_open", "Reasoning starts without a tag"),
      text("meta_data.region", "Region", "For Bedrock, such as eu-central-1."),
      json("meta_data.guardrail", "Guardrail", 'For Bedrock, such as {"id": "gr1abc", "version": "1"}.'),
      {
        name: "meta_data.fallback_core_ai_id",
        label: "Fallback",
        kind: "core_ai",
        hint: "Asked if this AI core gives no answer.",
      },
    ],
    derived: ["auth_required"], // true if there is a token
    facts: (core) => [
      core.api_endpoint,
      core.meta_data.model,
      core.auth_token ? "has a token" : "",
      core.meta_data.fallback_core_ai_id ? `fallback ${core.meta_data.fallback_core_ai_id}` : "",
    ],
  },
  platforms: {
    path: "admin/platforms",
    idField: "platform_id",
    noun: "platform",
    title: "Platforms",
    about: "Your own platform: its rate limit, and its webhook for replies. Write this record before any bot or AI core.",
    fields: [
      text("name", "Name"),
      long("description", "Description"),
      text("base_url", "Address", "https://… up to where the webhook's path begins."),
      number("meta_data.rate_limit_per_minute", "Messages a minute", "Only the deployment's owner changes it. Not set: the deployment's limit."),
      text("meta_data.webhook_path", "Webhook path", "Such as /webhooks/messages."),
      {
        name: "meta_data.webhook_secrets",
        label: "Webhook secrets",
        kind: "lines",
        hint: "The ARNs of one or two secrets, one on a line. *** keeps the stored one.",
      },
      json("meta_data.emergency_contacts", "Emergency contacts", "How patients get help, for each country."),
    ],
    derived: [],
    facts: (platform) => [
      platform.base_url,
      platform.meta_data.rate_limit_per_minute ? `${platform.meta_data.rate_limit_per_minute} a minute` : "",
    ],
  },
  safety_rules: {
    path: "admin/safety",
    idField: null,
    part: "settings",
    noun: "safety rules",
    title: "Own rules and languages",
    fields: [
      lines(
        "languages",
        "Languages of the shipped rules",
        "Such as en, one on a line. Not set: all. English and the languages of your bots are always on.",
      ),
      {
        name: "rules",
        label: "Own rules",
        kind: "rules",
        hint: "A list with an object for each language. Its form is that of a file of rules.",
      },
    ],
    derived: [],
  },
};

/** The initial values of a new record. */
export const fresh = {
  bots: { is_active: true, language: "en", meta_data: {} },
  core_ai: { meta_data: {} },
  platforms: { meta_data: {} },
};

/** The value of a field in a record; undefined if it is not set. */
export function valueOf(record, name) {
  return name.split(".").reduce((value, part) => value?.[part], record);
}

/** Whether two values are equal. A value that is not set equals null. */
export function sameValue(one, other) {
  return JSON.stringify(one ?? null) === JSON.stringify(other ?? null);
}

/** A copy of the record with these `[name, value]` pairs. A field whose value is undefined is removed. */
export function withValues(record, values) {
  const copy = structuredClone(record);
  for (const [name, value] of values) {
    const parts = name.split(".");
    const last = parts.pop();
    const place = parts.reduce((object, part) => (object[part] ??= {}), copy);
    if (value === undefined) delete place[last];
    else place[last] = value;
  }
  return copy;
}

/** A value as text in its control. */
export function written(kind, value) {
  if (value === undefined || value === null) return "";
  if (kind === "rules") return JSON.stringify(value, null, 2);
  if (kind === "json" || kind === "notice") return typeof value === "string" ? value : JSON.stringify(value);
  if (kind === "lines") return value.join("\n");
  return String(value);
}

/** The value of a control's text. Text that is not a number stays text, and the API reports it at its field. */
export function meant(kind, words) {
  const trimmed = words.trim();
  if (trimmed === "") return undefined;
  if (kind === "number") return Number.isFinite(Number(trimmed)) ? Number(trimmed) : trimmed;
  if (kind === "yes or no") return trimmed === "true";
  if (kind === "lines") return trimmed.split(/\s+/);
  if (kind === "json" || kind === "rules" || (kind === "notice" && trimmed.startsWith("{"))) return parsed(trimmed);
  return kind === "long" || kind === "notice" ? words : trimmed;
}

function parsed(words) {
  try {
    return JSON.parse(words);
  } catch {
    return words; // a text that begins with a brace
  }
}
