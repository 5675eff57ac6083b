// The extension against stand-ins for VS Code and its language client: what it starts, stops and says.
"use strict";

const assert = require("assert");
const Module = require("module");
const { beforeEach, test } = require("node:test");

const world = {};
class LanguageClient {
  constructor(id, name, server, options) {
    Object.assign(this, { id, name, server, options, running: false });
    world.clients.push(this);
  }
  async start() {
    if (world.missing) {
      throw new Error("spawn pzl ENOENT");
    }
    this.running = true;
  }
  async stop() {
    this.running = false;
  }
}
const vscode = {
  workspace: {
    workspaceFolders: [{ uri: { fsPath: "/somewhere" } }],
    getConfiguration: () => ({ get: () => world.server }),
    onDidChangeConfiguration: (listener) => void (world.changed = listener),
  },
  window: { showErrorMessage: (text) => world.shown.push(text) },
  commands: { registerCommand: (name, run) => void (world.commands[name] = run) },
};
const load = Module._load;
Module._load = (name, ...rest) =>
  name === "vscode" ? vscode : name === "vscode-languageclient/node" ? { LanguageClient } : load(name, ...rest);
const extension = require("../extension.js");

beforeEach(() => Object.assign(world, { clients: [], commands: {}, shown: [], missing: false, server: ["pzl", "lsp"] }));

const running = () => world.clients.filter((c) => c.running);

test("starts `pzl lsp` for the language that package.json declares", async () => {
  await extension.activate({ subscriptions: [] });
  const [client] = running();
  assert.deepStrictEqual([client.server.command, client.server.args], ["pzl", ["lsp"]]);
  const declared = require("../package.json").contributes.languages.map((l) => l.id);
  assert.deepStrictEqual([...new Set(client.options.documentSelector.map((s) => s.language))], declared);
  await extension.deactivate();
  assert.deepStrictEqual(running(), []);
});

test("the command is the setting's, and another one starts when it changes", async () => {
  world.server = ["/venv/bin/pzl", "lsp"];
  await extension.activate({ subscriptions: [] });
  assert.strictEqual(running()[0].server.command, "/venv/bin/pzl");
  world.server = ["/other/bin/pzl", "lsp"];
  await world.changed({ affectsConfiguration: (name) => name === "pzl.server" });
  assert.deepStrictEqual(running().map((c) => c.server.command), ["/other/bin/pzl"]);
  await extension.deactivate();
});

test("every command that package.json declares exists, and restarts", async () => {
  await extension.activate({ subscriptions: [] });
  const declared = require("../package.json").contributes.commands.map((c) => c.command);
  assert.deepStrictEqual(Object.keys(world.commands), declared);
  await world.commands["pzl.restart"]();
  assert.strictEqual(world.clients.length, 2);
  assert.strictEqual(running().length, 1);
  await extension.deactivate();
});

test("says how to install a server that is not there", async () => {
  world.missing = true;
  await extension.activate({ subscriptions: [] });
  assert.match(world.shown[0], /pip install puzzledsl/);
  await extension.deactivate();
});
