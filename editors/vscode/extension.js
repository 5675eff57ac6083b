// Starts `pzl lsp` for `.pzl` files and hands everything else to the language client.
"use strict";

const vscode = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

/** The words of the command that starts the server. */
function serverCommand() {
  const words = vscode.workspace.getConfiguration("pzl").get("server");
  return Array.isArray(words) && words.length > 0 ? words : ["pzl", "lsp"];
}

async function start() {
  const [command, ...args] = serverCommand();
  const folder = vscode.workspace.workspaceFolders?.[0]?.uri.fsPath;
  client = new LanguageClient(
    "pzl",
    "pzl language server",
    { command, args, options: { cwd: folder } },
    { documentSelector: [{ language: "pzl", scheme: "file" }, { language: "pzl", scheme: "untitled" }] },
  );
  try {
    await client.start();
  } catch (error) {
    client = undefined;
    vscode.window.showErrorMessage(
      `\`${[command, ...args].join(" ")}\` did not start: ${error.message ?? error}. ` +
        "Install it with `pip install puzzledsl`, or set `pzl.server` to where it is.",
    );
  }
}

async function stop() {
  const old = client;
  client = undefined;
  await old?.stop();
}

async function activate(context) {
  const restart = async () => {
    await stop();
    await start();
  };
  context.subscriptions.push(
    vscode.commands.registerCommand("pzl.restart", restart),
    vscode.workspace.onDidChangeConfiguration((event) => {
      if (event.affectsConfiguration("pzl.server")) {
        return restart();
      }
      return undefined;
    }),
  );
  await start();
}

module.exports = { activate, deactivate: stop };
