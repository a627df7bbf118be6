// What the TypeScript client programs share; it takes and gives the same lines as program.py.

import { createInterface } from "node:readline";

// `client` has listTools() → names, callTool(name, arguments, options of the SDK) → result, and close().
export async function serve(client) {
  let giveUp = new AbortController();

  async function call({ name, arguments: given, timeout_s, reset_timeout_on_progress }) {
    giveUp = new AbortController();
    const progress = [];
    const options = {
      signal: giveUp.signal,
      onprogress: (told) => progress.push(told.progress),
      resetTimeoutOnProgress: reset_timeout_on_progress ?? false,
    };
    if (timeout_s !== undefined) options.timeout = timeout_s * 1000;
    try {
      return { result: await client.callTool(name, given, options), progress };
    } catch (error) {
      return { error: String(error), progress };
    }
  }

  const methods = {
    list: async () => ({ tools: await client.listTools() }),
    call,
    cancel: async () => {
      giveUp.abort();
      return {};
    },
  };
  for await (const line of createInterface({ input: process.stdin })) {
    const { id, method, params } = JSON.parse(line);
    methods[method](params).then((result) => {
      process.stdout.write(JSON.stringify({ jsonrpc: "2.0", id, result }) + "\n");
    });
  }
  await client.close();
}
