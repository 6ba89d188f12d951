"""A client without any SDK: one loop, five ways of speaking, answers in one piece. Arguments: way, base URL, key, model."""
import json, subprocess, sys, urllib.request

way, base, key, model = sys.argv[1:5]
schema = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
told = "The meeting in notes.txt moves to Tuesday."


def post(path, body, **headers):
    headers = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    request = urllib.request.Request(base + path, json.dumps(body).encode(), headers)
    try:
        return json.load(urllib.request.urlopen(request))
    except urllib.error.HTTPError as error:
        sys.exit(error.read().decode())


def run(arguments):
    ran = subprocess.run(arguments["command"], shell=True, capture_output=True, text=True)
    return ran.stdout or "done"


def messages(said):
    body = {"model": model, "max_tokens": 4096, "thinking": {"type": "enabled", "budget_tokens": 2048}, "messages": said,
            "tools": [{"name": "bash", "input_schema": schema}]}
    content = post("/v1/messages", body, x_api_key=key, anthropic_version="2023-06-01")["content"]
    said.append({"role": "assistant", "content": content})
    results = [{"type": "tool_result", "tool_use_id": block["id"], "content": run(block["input"])}
               for block in content if block["type"] == "tool_use"]
    return [{"role": "user", "content": results}] if results else []


def chat(said):
    body = {"model": model, "messages": said, "tools": [{"type": "function", "function": {"name": "bash", "parameters": schema}}]}
    message = post("/chat/completions", body, authorization=f"Bearer {key}")["choices"][0]["message"]
    said.append({name: message[name] for name in ("role", "content", "tool_calls") if message.get(name)})
    return [{"role": "tool", "tool_call_id": call["id"], "content": run(json.loads(call["function"]["arguments"]))}
            for call in message.get("tool_calls", [])]


def responses(said):
    body = {"model": model, "input": said, "store": False, "include": ["reasoning.encrypted_content"],
            "tools": [{"type": "function", "name": "bash", "parameters": schema}]}
    output = post("/responses", body, authorization=f"Bearer {key}")["output"]
    said.extend(output)
    return [{"type": "function_call_output", "call_id": item["call_id"], "output": run(json.loads(item["arguments"]))}
            for item in output if item["type"] == "function_call"]


def gemini(said):
    body = {"contents": said, "tools": [{"functionDeclarations": [{"name": "bash", "parametersJsonSchema": schema}]}],
            "generationConfig": {"thinkingConfig": {"includeThoughts": True}}}
    answer = post(f"/v1beta/models/{model}:generateContent", body, x_goog_api_key=key)
    content = answer["candidates"][0]["content"]
    said.append(content)
    answers = [{"functionResponse": {**{name: part["functionCall"][name] for name in ("id", "name") if name in part["functionCall"]},
                                     "response": {"output": run(part["functionCall"]["args"])}}}
               for part in content["parts"] if "functionCall" in part]
    return [{"role": "user", "parts": answers}] if answers else []


def converse(said):
    body = {"messages": said, "toolConfig": {"tools": [{"toolSpec": {"name": "bash", "inputSchema": {"json": schema}}}]},
            "inferenceConfig": {"maxTokens": 4096},
            "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 2048}}}
    message = post(f"/model/{model}/converse", body, authorization=f"Bearer {key}")["output"]["message"]
    said.append(message)
    results = [{"toolResult": {"toolUseId": block["toolUse"]["toolUseId"], "content": [{"text": run(block["toolUse"]["input"])}]}}
               for block in message["content"] if "toolUse" in block]
    return [{"role": "user", "content": results}] if results else []


begin = {"gemini": {"role": "user", "parts": [{"text": told}]}, "converse": {"role": "user", "content": [{"text": told}]}}
said = [begin.get(way, {"role": "user", "content": told})]
for _ in range(6):
    more = globals()[way](said)
    if not more:
        break
    said.extend(more)
else:
    sys.exit("too many turns")
