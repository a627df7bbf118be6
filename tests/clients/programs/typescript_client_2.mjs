// A client made with version 2 of the TypeScript SDK, which asks for the newest protocol first. Arguments: the server's
// command.

import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { serve } from "./program.mjs";

const [command, ...args] = process.argv.slice(2);
const client = new Client({ name: "typescript-client-2", version: "1" }, { versionNegotiation: { mode: "auto" } });
await client.connect(new StdioClientTransport({ command, args }));
await serve({
  listTools: async () => (await client.listTools()).tools.map((tool) => tool.name),
  callTool: (name, given, options) => client.callTool({ name, arguments: given }, options),
  close: () => client.close(),
});
