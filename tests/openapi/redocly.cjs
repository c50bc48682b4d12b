// Prints each finding of the rules that Redocly recommends, one a line: node redocly.cjs FILE
const { createConfig, lint } = require("@redocly/openapi-core");

async function main(file) {
  const config = await createConfig({ extends: ["recommended"] });
  for (const { severity, ruleId, message, location } of await lint({ ref: file, config })) {
    console.log(`${severity} ${ruleId} at ${location[0]?.pointer}: ${message}`);
  }
}

main(process.argv[2]);
