// Makes latq_ksy.py again, of spec/latq.ksy, by the real compiler. In the folder of the project:
//
//     npm install --prefix build/kaitai kaitai-struct-compiler@0.11.0 js-yaml@4
//     NODE_PATH=build/kaitai/node_modules node tests/kaitai/generate.js
"use strict";
const crypto = require("crypto");
const fs = require("fs");
const path = require("path");
const compiler = require("kaitai-struct-compiler");
const yaml = require("js-yaml");
const { version } = require("kaitai-struct-compiler/package.json");

const text = fs.readFileSync(path.join(__dirname, "../../spec/latq.ksy"));
const digest = crypto.createHash("sha256").update(text).digest("hex");
compiler.compile("python", yaml.load(text.toString()), null, false).then((files) => {
  const head = `# Of spec/latq.ksy, SHA-256 ${digest}, by kaitai-struct-compiler ${version}.\n`;
  fs.writeFileSync(path.join(__dirname, "latq_ksy.py"), head + files["latq.py"]);
});
