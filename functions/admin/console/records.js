// What can be configured of a bot, an AI core and a platform, as fields of a form. What may be in them the API knows:
// it names the field that is wrong, and nothing is checked twice.

const number = (name, label, hint) => ({ name, label, hint, kind: "number" });
const text = (name, label, hint) => ({ name, label, hint, kind: "text" });
const long = (name, label, hint) => ({ name, label, hint, kind: "long" });
const choice = (name, label, values, hint) => ({ name, label, values, hint, kind: "choice" });
const yesNo = (name, label, hint) => ({ name, label, hint, kind: "yes or no" });

/** `derived`: what the API makes of the other fields, and so is not sent. `facts`: what is listed of a record. */
export const KINDS = {
  bots: {
    path: "admin/bots",
    idField: "bot_id",
    noun: "bot",
    title: "Bots",
    about: "A bot answers with an AI core. The one with the id default answers wherever no bot is named.",
    fields: [
      text("name", "Name", "Patients' platforms are told it."),
      long("description", "Description"),
      text("language", "Language", "Such as vi, en or pt-BR."),
      yesNo("is_active", "Active", "An inactive bot takes no messages: 409."),
      { name: "core_ai_id", label: "AI core", kind: "core_ai", hint: "None: the simulated AI." },
      choice(
        "meta_data.double_texting",
        "Double texting",
        ["consolidate", "enqueue", "interrupt", "reject"],
        "What a message does that comes while another is answered. Not set: consolidate.",
      ),
      number("meta_data.debounce_ms", "Debounce, ms", "How long the patient must be quiet: 0 to 10000. Not set: 500. 0: off."),
      number("meta_data.debounce_max_ms", "Debounce at most, ms", "However long they type: 0 to 30000. Not set: 10000."),
      number("meta_data.max_context_messages", "Messages shown to the AI", "Not set: 20."),
      number("meta_data.max_context_characters", "Characters shown to the AI", "Not set: 10000."),
      yesNo("meta_data.show_partial_reply", "Show the reply while it is written"),
      {
        name: "meta_data.failure_message",
        label: "What patients are told when no answer could be made",
        kind: "notice",
        hint: 'A text, or one for each language: {"en": "…", "vi": "…"}',
      },
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
    about: "Where replies come from: an address of chat completions, a model of Bedrock's, or the simulated AI.",
    fields: [
      text("name", "Name"),
      text(
        "api_endpoint",
        "Endpoint",
        "Its scheme chooses the provider, such as https:// and the whole address of chat completions, or bedrock:// and a model.",
      ),
      {
        name: "auth_token",
        label: "Token",
        kind: "secret",
        hint: "The ARN of a secret. *** keeps the stored one; it is never shown.",
      },
      number("timeout_seconds", "Timeout, seconds", "For the whole answer with all its tries: 1 to 100."),
      text("meta_data.model", "Model"),
      number("meta_data.temperature", "Temperature", "0 to 2."),
      number("meta_data.top_p", "Top p", "Above 0, to 1."),
      number("meta_data.max_tokens", "Max tokens", "Either this or the next, as the provider knows it."),
      number("meta_data.max_completion_tokens", "Max completion tokens"),
      long("meta_data.system_prompt", "System prompt"),
      number("meta_data.max_reply_characters", "Reply's characters at most", "Not set: 20000."),
      number("meta_data.max_resources_characters", "Resources' characters at most"),
      choice("meta_data.auth_header", "Header of the token", ["authorization", "api-key"]),
      text("meta_data.region", "Region", "Bedrock's, such as eu-central-1."),
      {
        name: "meta_data.fallback_core_ai_id",
        label: "Fallback",
        kind: "core_ai",
        hint: "Asked when this one gives no answer.",
      },
    ],
    derived: ["auth_required"], // whether there is a token
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
    about: "Your own: how much it may send, and where it is told of replies. Bots and AI cores need its record first.",
    fields: [
      text("name", "Name"),
      long("description", "Description"),
      text("base_url", "Address", "https://… without a path's end: the webhook's follows."),
      number("meta_data.rate_limit_per_minute", "Messages a minute", "Not set: no limit."),
      text("meta_data.webhook_path", "Webhook's path", "Such as /webhooks/messages."),
      {
        name: "meta_data.webhook_secrets",
        label: "Webhook's secrets",
        kind: "secrets",
        hint: "One or two, a line each: ARNs of secrets. *** keeps the stored one.",
      },
    ],
    derived: [],
    facts: (platform) => [
      platform.base_url,
      platform.meta_data.rate_limit_per_minute ? `${platform.meta_data.rate_limit_per_minute} a minute` : "",
    ],
  },
};

/** What a new record begins with. */
export const fresh = {
  bots: { is_active: true, language: "en", meta_data: {} },
  core_ai: { meta_data: {} },
  platforms: { meta_data: {} },
};

/** A field's value within a record; undefined where it is not set. */
export function valueOf(record, name) {
  return name.split(".").reduce((value, part) => value?.[part], record);
}

/** Whether two values are one; what is not set is null. */
export function sameValue(one, other) {
  return JSON.stringify(one ?? null) === JSON.stringify(other ?? null);
}

/** A copy of the record with these `[name, value]`; what is undefined is left out. */
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

/** How a value is written in its control. */
export function written(kind, value) {
  if (value === undefined || value === null) return "";
  if (kind === "notice") return typeof value === "string" ? value : JSON.stringify(value);
  if (kind === "secrets") return value.join("\n");
  return String(value);
}

/** The value that a control's text means. What is no number stays text: the API says so, at its field. */
export function meant(kind, words) {
  const trimmed = words.trim();
  if (trimmed === "") return undefined;
  if (kind === "number") return Number.isFinite(Number(trimmed)) ? Number(trimmed) : trimmed;
  if (kind === "yes or no") return trimmed === "true";
  if (kind === "secrets") return trimmed.split(/\s+/);
  if (kind === "notice" && trimmed.startsWith("{")) return parsed(trimmed);
  return kind === "long" || kind === "notice" ? words : trimmed;
}

function parsed(words) {
  try {
    return JSON.parse(words);
  } catch {
    return words; // a text that begins with a brace
  }
}
