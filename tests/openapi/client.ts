// A platform's first steps with the generated types. It is compiled, never run: each line is a check of openapi.json.
// `@ts-expect-error` fails the build if the next line is accepted.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

const client = createClient<paths>({ baseUrl: "https://api.example.com/v1" });
const path = { conversation_id: "conv_123" };

/** Posts a patient's message and returns the job that answers it; null while a human answers, or if it has no words. */
export async function post(text: string): Promise<string | null> {
  const { data, error } = await client.POST("/conversations/{conversation_id}/messages", {
    params: { path },
    body: { messages: [{ role: "user", content: text }], message_id: "m-1" },
  });
  if (data) return "ai_job_id" in data ? data.ai_job_id : null;
  throw new Error("action" in error ? error.message : error.detail);
}

/** Waits for the job, and returns the reply. */
export async function reply(jobId: string): Promise<string> {
  const { data, error } = await client.GET("/jobs/{job_id}", {
    params: { path: { job_id: jobId }, query: { wait: 20 } },
  });
  if (!data) throw new Error(`${error.status}: ${error.detail}`);
  const open: boolean = data.status === "pending" || data.status === "processing";
  if (open && data.progress) return data.progress.text ?? `${data.progress.seconds} s so far`;
  return data.reply?.content ?? data.error?.notice ?? "";
}

/** Writes a bot's record only if it is still as it was read. */
export async function rename(name: string, etag: string): Promise<components["schemas"]["Bot"] | undefined> {
  const { data } = await client.PUT("/admin/bots/{bot_id}", {
    params: { path: { bot_id: "pharmacy" }, header: { "If-Match": etag } },
    body: { name },
  });
  return data;
}

export async function mistakes(): Promise<void> {
  // @ts-expect-error: there is no such route
  await client.GET("/nowhere", {});
  // @ts-expect-error: a request needs `history` or `messages`
  await client.POST("/conversations/{conversation_id}/messages", { params: { path }, body: { message_id: "m-1" } });
  await client.POST("/conversations/{conversation_id}/messages", {
    params: { path },
    // @ts-expect-error: there is no such role
    body: { messages: [{ role: "system", content: "Hello" }] },
  });
  // @ts-expect-error: the path needs its parameter
  await client.GET("/jobs/{job_id}", { params: {} });
  const { data } = await client.GET("/jobs/{job_id}", { params: { path: { job_id: "1" } } });
  // @ts-expect-error: there is no such status
  console.log(data?.status === "done");
}
