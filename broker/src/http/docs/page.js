// Makes the page from /v1/openapi.json: a form for each operation, which sends what it says and shows the answer.

const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

const request = async (method, path, body) => {
  const options = { method: method.toUpperCase(), credentials: "same-origin" };
  if (body !== undefined && body !== "") {
    options.body = body;
    options.headers = { "Content-Type": "application/json" };
  }
  const response = await fetch(path, options);
  const text = await response.text();
  return { response, text };
};

const pretty = (text) => {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
};

// A value that fits a schema, to begin with.
const example = (schema, all) => {
  if (schema.$ref) return example(all[schema.$ref.split("/").pop()], all);
  const type = [schema.type].flat()[0];
  if (schema.enum) return schema.enum[0];
  if (type === "object") {
    const properties = Object.entries(schema.properties ?? {});
    const wanted = properties.filter(([name]) => (schema.required ?? []).includes(name));
    const shown = wanted.length ? wanted : properties;
    return Object.fromEntries(shown.map(([name, one]) => [name, example(one, all)]));
  }
  if (type === "array") return [];
  if (type === "integer" || type === "number") return 0;
  if (type === "boolean") return false;
  return "";
};

const operation = (method, path, about, all) => {
  const fields = new Map();
  const inputs = (about.parameters ?? []).map((parameter) => {
    const input = element("input", { placeholder: parameter.in === "path" ? "" : parameter.schema.type });
    fields.set(parameter, input);
    return element("label", { title: parameter.description ?? "" }, parameter.name, input);
  });
  const json = about.requestBody?.content?.["application/json"];
  const body = element("textarea", { rows: 5 });
  if (json) body.value = JSON.stringify(example(json.schema, all), null, 2);
  const answer = element("pre", { hidden: true });
  const form = element("form", {}, ...inputs);
  if (json) form.append(element("label", { className: "wide" }, "Body", body));
  form.append(element("button", {}, "Send"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    let address = path;
    const query = new URLSearchParams();
    for (const [parameter, input] of fields) {
      if (parameter.in === "path") {
        address = address.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      } else if (input.value !== "") {
        query.set(parameter.name, input.value);
      }
    }
    if (query.size) address += `?${query}`;
    answer.hidden = false;
    answer.textContent = "...";
    try {
      const { response, text } = await request(method, address, json ? body.value : undefined);
      answer.textContent = `${method.toUpperCase()} ${address}\n${response.status} ${response.statusText}\n\n${pretty(text)}`;
    } catch (error) {
      answer.textContent = String(error);
    }
  });
  const statuses = Object.entries(about.responses).filter(([status]) => status !== "default");
  const told = statuses.map(([status, one]) => `${status}: ${one.description}`).join("; ");
  return element(
    "details",
    {},
    element("summary", {}, element("b", { className: method }, method.toUpperCase()), ` ${path} `, element("span", {}, about.summary)),
    element("p", {}, told),
    form,
    answer,
  );
};

const who = document.querySelector("#who");
const showWho = async () => {
  const { response, text } = await request("get", "/v1/me");
  who.textContent = response.ok ? `signed in as ${JSON.parse(text).user}` : "not signed in";
};

document.querySelector("#sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { user, password } = Object.fromEntries(new FormData(event.target));
  const { response, text } = await request("post", "/v1/login", JSON.stringify({ user, password }));
  if (response.ok) await showWho();
  else who.textContent = JSON.parse(text).error.text;
});

document.querySelector("#sign-out").addEventListener("click", async () => {
  await request("post", "/v1/logout");
  await showWho();
});

const { text } = await request("get", "/v1/openapi.json");
const api = JSON.parse(text);
document.querySelector("#about").textContent = api.info.description;
const groups = new Map();
for (const [path, methods] of Object.entries(api.paths)) {
  for (const [method, about] of Object.entries(methods)) {
    const [tag] = about.tags;
    if (!groups.has(tag)) groups.set(tag, []);
    groups.get(tag).push(operation(method, path, about, api.components.schemas));
  }
}
const main = document.querySelector("#endpoints");
main.replaceChildren();
for (const [tag, operations] of groups) main.append(element("h2", {}, tag), ...operations);
await showWho();
