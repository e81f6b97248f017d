// The mutations: what is looked for in a Solidity source, and what it becomes.

// Each match of a pattern is one mutant.
const REPLACEMENTS = [
  [/ == /g, " != "],
  [/ != /g, " == "],
  [/ >= /g, " > "],
  [/ <= /g, " < "],
  [/ < /g, " <= "],
  [/ > /g, " >= "],
  [/ && /g, " || "],
  [/ \|\| /g, " && "],
  [/ \+= /g, " -= "],
  [/ \+= /g, " = "],
  [/ \+ /g, " - "],
  [/ - /g, " + "],
  [/ \* /g, " / "],
  [/ \/ /g, " * "],
  [/ << /g, " >> "],
  [/ >> /g, " << "],
  [/ & /g, " | "],
  [/ \| /g, " & "],
  [/ \^ /g, " | "],
  [/!(?=[\w_(])/g, ""],
  [/~(?=[\w_(])/g, ""],
  [/\btrue\b/g, "false"],
  [/\bfalse\b/g, "true"],
  [/\bnonReentrant\b/g, ""],
  [/\bonlyOwner\b/g, ""],
  [/(?<= = )0;/g, "1;"],
  [/\bcontinue;/g, "{}"],
];
const ASSEMBLY_REPLACEMENTS = [
  [/\badd\(/g, "sub("],
  [/\bsub\(/g, "add("],
  [/\band\(/g, "or("],
  [/\bgt\(/g, "lt("],
  [/\beq\(/g, "gt("],
];
// Statements on one line that are left out: calls and writes.
const STATEMENT =
  /^\s+((?!return\b|emit\b|require\b|revert\b)[\w.]+(\.\w+|\[.*\])*( [-+]?= .*|\(.*\));|delete .*;|\+\+.*;|emit .*;)$/;
const ASSEMBLY_STATEMENT = /^\s+(mstore|sstore|calldatacopy|log4)\(.*\)$/;
const NO_CODE = /^\s*(\/\/|\/\*|\*|import|pragma|type |using|error |event |struct |mapping|modifier )|\bconstant\b/;

/** Every mutant of a source: its line (from 1), that line before and after, and the whole changed text. */
function mutantsOf(text) {
  const lines = text.split("\n");
  const starts = [];
  lines.reduce((at, line) => (starts.push(at), at + line.length + 1), 0);
  const mutants = [];
  const add = (from, to, replacement) => {
    const changed = text.slice(0, from) + replacement + text.slice(to);
    const index = starts.findLastIndex((start) => start <= from);
    const before = text.slice(starts[index], text.indexOf("\n", Math.max(to, starts[index])));
    const after = before.slice(0, from - starts[index]) + replacement + before.slice(to - starts[index]);
    mutants.push({ line: index + 1, before: oneLine(before), after: oneLine(after), text: changed });
  };

  let inAssembly = false;
  lines.forEach((line, index) => {
    if (NO_CODE.test(line)) return;
    const code = line.split(" //")[0];
    const start = starts[index];
    if (/^\s*assembly/.test(code)) return void (inAssembly = true);
    if (inAssembly && /^\s*}$/.test(code)) return void (inAssembly = false);
    for (const [pattern, replacement] of inAssembly ? ASSEMBLY_REPLACEMENTS : REPLACEMENTS) {
      for (const match of code.matchAll(pattern)) add(start + match.index, start + match.index + match[0].length, replacement);
    }
    const statement = inAssembly ? ASSEMBLY_STATEMENT : STATEMENT;
    const indentation = code.match(/^\s*/)[0].length;
    if (statement.test(code)) add(start + indentation, start + code.length, inAssembly ? "" : "{}");
  });
  for (const { from, to, values } of conditions(text)) {
    for (const value of values) add(from, to, value);
  }
  return mutants;
}

/** What `require`, `if` and `while` test, over as many lines as it takes. */
function conditions(text) {
  const found = [];
  for (const match of text.matchAll(/(?<=^\s*(?:\} else )?)(require|if|while) ?\(/gm)) {
    const from = match.index + match[0].length;
    let depth = 0;
    let to = from;
    while (depth > 0 || (text[to] !== ")" && (text[to] !== "," || match[1] !== "require"))) {
      if ("([{".includes(text[to])) ++depth;
      if (")]}".includes(text[to])) --depth;
      ++to;
    }
    // A loop that never ends is no news.
    const values = { require: ["true"], if: ["true", "false"], while: ["false"] }[match[1]];
    found.push({ from, to, values });
  }
  return found;
}

function oneLine(text) {
  return text.trim().replace(/\s+/g, " ");
}

module.exports = { mutantsOf };
