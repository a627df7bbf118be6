// A client made with version 1 of the TypeScript SDK. Arguments: the server's command.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { serve } from "./program.mjs";

const [command, ...args] = process.argv.slice(2);
const client = new Client({ name: "typescript-sdk-1", version: "1" });
await client.connect(new StdioClientTransport({ command, args }));
await serve({
  listTools: async () => (await client.listTools()).tools.map((tool) => tool.name),
  callTool: (name, given, options) => client.callTool({ name, arguments: given }, undefined, options),
  close: () => client.close(),
});
