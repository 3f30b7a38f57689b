// The TypeScript SDK 1, which opens with the initialize handshake.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { round } from "./round.mjs";

const [quick, slow, cwd, command, ...args] = process.argv.slice(2);
const client = new Client({ name: "interop-legacy", version: "1.0.0" });
const transport = new StdioClientTransport({ command, args, env: process.env });
let protocol;
transport.setProtocolVersion = (version) => {
  protocol = version;
};
await client.connect(transport);
try {
  await round(client, { protocol, quick, slow, cwd, listTools: () => client.listTools() });
} finally {
  await client.close();
}
