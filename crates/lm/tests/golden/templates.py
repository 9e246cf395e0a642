"""Writes templates.json: chat templates, conversations and expressions with what Jinja2 makes of them.

The environment is the one that Hugging Face's transformers builds for chat templates. The templates are
written after the formats of the models that they are named for.

    python3 templates.py        (needs jinja2 3.1)
"""

import json
from datetime import datetime, timezone
from pathlib import Path

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = 1_709_210_096  # 2024-02-29 12:34:56 UTC


class Generation(Extension):
    """{% generation %} marks what the assistant says; it does not change the text."""

    tags = {"generation"}

    def parse(self, parser):
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_run"), [], [], body).set_lineno(lineno)

    def _run(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def strftime_now(format):
    return datetime.fromtimestamp(NOW, timezone.utc).replace(tzinfo=None).strftime(format)


env = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
)
env.filters["tojson"] = tojson
env.globals["raise_exception"] = raise_exception
env.globals["strftime_now"] = strftime_now

TEMPLATES = {}

TEMPLATES["chatml"] = """\
{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}
{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""

TEMPLATES["llama-2"] = """\
{% if messages[0]['role'] == 'system' %}
  {% set loop_messages = messages[1:] %}
  {% set system_message = messages[0]['content'] %}
{% else %}
  {% set loop_messages = messages %}
  {% set system_message = false %}
{% endif %}
{% for message in loop_messages %}
  {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
    {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
  {% endif %}
  {% if loop.index0 == 0 and system_message != false %}
    {% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}
  {% else %}
    {% set content = message['content'] %}
  {% endif %}
  {% if message['role'] == 'user' %}
{{- bos_token + '[INST] ' + content.strip() + ' [/INST]' -}}
  {% elif message['role'] == 'assistant' %}
{{- ' '  + content.strip() + ' ' + eos_token -}}
  {% endif %}
{% endfor %}
"""

TEMPLATES["llama-3"] = """\
{%- set loop_messages = messages -%}
{%- for message in loop_messages -%}
    {%- set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' -%}
    {%- if loop.index0 == 0 -%}{%- set content = bos_token + content -%}{%- endif -%}
    {{- content -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{%- endif -%}
"""

TEMPLATES["llama-3.1-tools"] = """\
{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now("%d %b %Y") %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- The system message is cut out here. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- if tools_in_user_message and not tools is none %}
    {%- if messages | length != 0 %}
        {%- set first_user_message = messages[0]['content']|trim %}
        {%- set messages = messages[1:] %}
    {%- else %}
        {{- raise_exception("Cannot put tools in the first user message when there's no first user message!") }}
    {%- endif %}
    {{- '<|start_header_id|>user<|end_header_id|>\\n\\n' -}}
    {{- "Given the following functions, please respond with a JSON for a function call.\\n\\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
    {{- first_user_message + "<|eot_id|>"}}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

TEMPLATES["mistral-tools"] = """\
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}

{#- Roles must alternate, tool messages aside. #}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate user/assistant/user/assistant/...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- else %}
                    {{- "]" }}
                {%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
            {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}
                {{- ", " }}
            {%- else %}
                {{- "]" + eos_token }}
            {%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}
            {%- set content = message.content %}
        {%- endif %}
        {{- '[TOOL_RESULTS] {"content": ' + content|string + ", " }}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with the exception of an initial optional system message!") }}
    {%- endif %}
{%- endfor %}
"""

TEMPLATES["qwen-3"] = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "# Tools\\n\\nYou may call one or more functions.\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools>\\n\\nReturn a json object within <tool_call></tool_call> tags.<|im_end|>\\n" }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\\n' }}
                {%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<tool_call>\\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

TEMPLATES["gemma-2"] = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{% for message in messages %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{% endif %}
{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}
{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}
{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}
"""

TEMPLATES["gemma-3"] = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '

' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
"""

TEMPLATES["zephyr"] = """\
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}
"""

TEMPLATES["phi-3"] = """\
{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>
' + message['content'] + '<|end|>
'}}{% elif message['role'] == 'user' %}{{'<|user|>
' + message['content'] + '<|end|>
'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>
' + message['content'] + '<|end|>
'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>
' }}{% else %}{{ eos_token }}{% endif %}
"""

TEMPLATES["smol-generation"] = """\
{# Marks what is trained on. #}
{%- for message in messages %}
  {%- if message.role == "assistant" %}
    {% generation %}
    {{- "<|im_start|>assistant\\n" ~ message.content.lstrip("\\n") ~ "<|im_end|>" }}
    {%- endgeneration %}
  {%- else %}
    {{- "<|im_start|>" ~ message.role ~ "\\n" ~ message.content ~ "<|im_end|>" }}
  {%- endif %}
  {{ "\\n" }}
{%- endfor %}
{%- if add_generation_prompt %}{{ "<|im_start|>assistant\\n" }}{% endif %}
"""

TEMPLATES["deepseek"] = """\
{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}
{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='') %}
{%- for message in messages %}{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}
{{bos_token}}{{ns.system_prompt}}
{%- for message in messages %}
{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{'<｜User｜>' + message['content']}}{%- endif %}
{%- if message['role'] == 'assistant' and message['content'] is none %}{%- set ns.is_tool = false -%}
{%- for tool in message['tool_calls']%}{%- if not ns.is_first %}{{'<｜Assistant｜><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' + tool['function']['name'] + '\\n' + '```json' + '\\n' + (tool['function']['arguments'] | tojson) + '\\n' + '```' + '<｜tool▁call▁end｜>'}}{%- set ns.is_first = true -%}
{%- else %}{{'\\n' + '<｜tool▁call▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' + tool['function']['name'] + '<｜tool▁call▁end｜>'}}{{'<｜tool▁calls▁end｜><｜end▁of▁sentence｜>'}}{%- endif %}{%- endfor %}{%- endif %}
{%- if message['role'] == 'assistant' and message['content'] is not none %}
{%- if ns.is_tool %}{{'<｜tool▁outputs▁end｜>' + message['content'] + '<｜end▁of▁sentence｜>'}}{%- set ns.is_tool = false -%}
{%- else %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endif %}
{%- if message['role'] == 'tool' %}{%- set ns.is_tool = true -%}
{%- if ns.is_output_first %}{{'<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>' + message['content'] + '<｜tool▁output▁end｜>'}}{%- set ns.is_output_first = false %}
{%- else %}{{'\\n<｜tool▁output▁begin｜>' + message['content'] + '<｜tool▁output▁end｜>'}}{%- endif %}{%- endif %}{%- endfor -%}
{% if ns.is_tool %}{{'<｜tool▁outputs▁end｜>'}}{% endif %}{% if add_generation_prompt and not ns.is_tool %}{{'<｜Assistant｜><think>\\n'}}{% endif %}
"""

TEMPLATES["command-documents"] = """\
{{ bos_token }}{% if documents %}{{ "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|><results>\\n" }}{% for document in documents %}{{ "Document: " ~ loop.index0 ~ "\\n" }}
{% for key, value in document.items() %}
{{ key ~ ": " ~ value|string ~ "\\n" }}{% endfor %}
{% if not loop.last %}{{ "\\n" }}{% endif %}
{% endfor %}{{ "</results><|END_OF_TURN_TOKEN|>" }}{% endif %}
{%- macro turn(role, text="") -%}
<|START_OF_TURN_TOKEN|><|{{ role | upper }}_TOKEN|>{{ text | trim }}<|END_OF_TURN_TOKEN|>
{%- endmacro -%}
{%- for m in messages -%}
{{ turn({"assistant": "chatbot"}.get(m.role, m.role), m.content if m.content is string else (m.content or [])|map(attribute="text")|select("defined")|join("\\n")) }}
{%- endfor -%}
{%- if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{% endif %}
"""

TEMPLATES["harmony-types"] = """\
{%- macro render_typescript_type(param_spec, required_params, is_nullable=false) -%}
    {%- if param_spec.type == "array" -%}
        {%- if param_spec['items'] -%}
            {%- if param_spec['items']['type'] == "string" -%}
                {{- "string[]" }}
            {%- elif param_spec['items']['type'] == "number" -%}
                {{- "number[]" }}
            {%- else -%}
                {%- set inner_type = render_typescript_type(param_spec['items'], required_params) -%}
                {{- inner_type + "[]" if inner_type|length <= 50 else "any[]" }}
            {%- endif -%}
            {%- if param_spec.nullable -%}{{- " | null" -}}{%- endif -%}
        {%- else -%}
            {{- "any[]" }}
        {%- endif -%}
    {%- elif param_spec.type is defined and param_spec.type is iterable and param_spec.type is not string and param_spec.type is not mapping and param_spec.type[0] is defined -%}
        {{- param_spec.type | join(" | ") }}
    {%- elif param_spec.type == "string" -%}
        {%- if param_spec.enum -%}
            {{- '"' + param_spec.enum|join('" | "') + '"' -}}
        {%- else -%}
            {{- "string" }}
        {%- endif -%}
    {%- elif param_spec.type == "object" -%}
        {%- if param_spec.properties -%}
            {{- "{\\n" }}
            {%- for prop_name, prop_spec in param_spec.properties.items() -%}
                {{- prop_name -}}
                {%- if prop_name not in (param_spec.required or []) -%}{{- "?" }}{%- endif -%}
                {{- ": " }}
                {{ render_typescript_type(prop_spec, param_spec.required or []) }}
                {%- if not loop.last -%}{{- ", " }}{%- endif -%}
            {%- endfor -%}
            {{- "}" }}
        {%- else -%}{{- "object" }}{%- endif -%}
    {%- else -%}
        {{- {"integer": "number", "number": "number", "boolean": "boolean"}.get(param_spec.type, "any") }}
    {%- endif -%}
{%- endmacro -%}
<|start|>system<|message|>Current date: {{ strftime_now("%Y-%m-%d") }}
{%- if tools %}{{ "\\n" }}{% for tool in tools %}{% set tool = tool.function %}// {{ tool.description }}
type {{ tool.name }} = (_: {{ render_typescript_type(tool.parameters, tool.parameters.required or []) }}) => any;
{% endfor %}{% endif %}<|end|>
{%- for message in messages -%}
    {%- if message.role == "assistant" and "thinking" in message %}{{- "<|start|>assistant<|channel|>analysis<|message|>" + message.thinking + "<|end|>" }}{%- endif -%}
    {%- set text = message.content if message.content is string else "" -%}
    <|start|>{{ message.role }}{{ "<|channel|>final" if message.role == "assistant" }}<|message|>{{ text }}<|end|>
{%- endfor -%}
{%- if add_generation_prompt -%}<|start|>assistant{%- endif -%}
"""

TEMPLATES["cohorts"] = """\
{% set sep = joiner is defined %}
{%- for role, group in messages | groupby('role') %}
{{ role }}: {{ group | length }}
{%- endfor %}
{% for m in messages if m.content is string and m.content|length > 3 %}
{{ loop.index }}/{{ loop.length }} {{ m.content[:8] | replace('\\n', ' ') }}{{ ',' if not loop.last }}
{% else %}
nothing
{% endfor %}
{% for m in messages %}{% if loop.index > 3 %}{% break %}{% endif %}{% if m.role == 'system' %}{% continue %}{% endif %}[{{ loop.previtem.role if loop.previtem is defined else '-' }}>{{ m.role }}]{% endfor %}
{% filter upper %}{% for m in messages %}{{ m.role[0] }}{% endfor %}{% endfilter %}
{% set block %}
{% for m in messages %}{{ m.role }};{% endfor %}
{% endset %}
{{ block | trim }}
{% with a = messages | map(attribute='role') | unique | list %}{{ a }}{% endwith %}
"""

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a place; says \"sunny\" <or> 'rain' & more, é ☃",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "A city"},
                    "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                    "days": {"type": "array", "items": {"type": "integer"}},
                    "where": {"type": ["string", "null"]},
                },
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}}},
]

CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "abcdefghi",
            "type": "function",
            "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": [1, 2], "x": 1.5, "y": None, "z": True}},
        }
    ],
}
CALL_TEXT = {
    "role": "assistant",
    "content": "Let me look.",
    "tool_calls": [{"id": "123456789", "type": "function", "function": {"name": "now", "arguments": "{}"}}],
}

CHATS = {
    "one": {"messages": [{"role": "user", "content": "Hello!"}]},
    "one-closed": {"messages": [{"role": "user", "content": "Hello!"}], "add_generation_prompt": False},
    "system": {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]},
    "turns": {
        "messages": [
            {"role": "system", "content": "  You are\nkind. "},
            {"role": "user", "content": " What is 2+2? "},
            {"role": "assistant", "content": "4\n"},
            {"role": "user", "content": "And \"3\" < 5 & 'x'?"},
        ]
    },
    "done": {
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        "add_generation_prompt": False,
    },
    "unicode": {"messages": [{"role": "user", "content": "héllo 漢字 👩‍👩‍👧 \u200b\u00a0\ufdfa"}]},
    "syntax": {"messages": [{"role": "user", "content": "{{ 7*7 }} {% if x %} {# c #} \\n <|im_end|>"}]},
    "blank": {"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "   \n"}]},
    "wrong-order": {"messages": [{"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}]},
    "two-users": {"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]},
    "parts": {
        "messages": [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " What is this? "}]}
        ]
    },
    "thinking": {
        "messages": [
            {"role": "user", "content": "q1"},
            {"role": "assistant", "content": "<think>\nhmm\n</think>\n\nanswer 1"},
            {"role": "user", "content": "q2"},
            {"role": "assistant", "content": "answer 2", "reasoning_content": "\nwell\n", "thinking": "well"},
        ]
    },
    "no-thinking": {"messages": [{"role": "user", "content": "q"}], "variables": {"enable_thinking": False}},
    "tools": {"messages": [{"role": "user", "content": "Weather?"}], "tools": TOOLS},
    "tools-system": {
        "messages": [{"role": "system", "content": "Help."}, {"role": "user", "content": "Weather?"}],
        "tools": TOOLS,
    },
    "tool-call": {
        "messages": [
            {"role": "user", "content": "Weather?"},
            CALL,
            {"role": "tool", "content": "{\"t\": 21}", "tool_call_id": "abcdefghi", "name": "get_weather"},
            {"role": "assistant", "content": "21 degrees."},
            {"role": "user", "content": "Thanks"},
        ],
        "tools": TOOLS,
    },
    "tool-text": {
        "messages": [
            {"role": "user", "content": "Time?"},
            CALL_TEXT,
            {"role": "tool", "content": "noon", "tool_call_id": "123456789"},
            {"role": "tool", "content": "12:00", "tool_call_id": "123456789"},
        ]
    },
    "documents": {
        "messages": [{"role": "user", "content": "Sum up"}],
        "documents": [{"title": "A", "text": "alpha", "n": 3}, {"title": "B", "text": "beta"}],
    },
    "missing-content": {"messages": [{"role": "user"}]},
    "number-content": {"messages": [{"role": "user", "content": 42}]},
    "empty": {"messages": []},
}

# Expressions and statements on their own, over CONTEXT.
CONTEXT = {
    "s": "Hello, Wörld",
    "n": 7,
    "f": 2.5,
    "big": 123456789012345678901234567890,
    "l": [3, 1, 2],
    "m": {"b": 1, "a": [1, "x", None, True, 1.0], "items": "key"},
    "u": [{"r": "x", "v": 2}, {"r": "y", "v": 1}, {"r": "x", "v": 3}],
    "none": None,
    "t": True,
    "e": "",
    "q": "it's \"q\"\n\ttab\\ \x01 é \u2028",
}

SNIPPETS = [
    "{{ s }} {{ n }} {{ f }} {{ l }} {{ m }} {{ t }} {{ none }} {{ missing }}|",
    "{{ q }}|{{ [q] }}", "{{ {'a': q}|tojson }}", "{{ q|tojson(ensure_ascii=True) }}",
    "{{ '👩'|tojson(ensure_ascii=true) }}",
    "{{ m|tojson }}", "{{ m|tojson(indent=2) }}", "{{ m|tojson(separators=(',', ':')) }}",
    "{{ m|tojson(sort_keys=true) }}", "{{ m|tojson(indent=1, separators=(';', '=')) }}", "{{ []|tojson(indent=2) }}{{ {}|tojson(indent=2) }}",
    "{{ (1, 2)|tojson }}{{ (1,) }}{{ () }}", "{{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }}",
    "{{ [1e16, 1e-5, 0.1, 1e22, 123456.789, -0.0]|tojson }}",
    "{{ 1 + 2 * 3 ** 2 // 4 % 5 }}", "{{ 2 ** 3 ** 2 }}", "{{ -2 ** 2 }}", "{{ 2 * 3 ** 2 }}", "{{ 7 // -2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ -7.5 // 2 }} {{ -7.5 % 2 }}",
    "{{ 7 / 2 }} {{ 8 / 2 }} {{ 2 ** -1 }} {{ 10 - 2 - 3 }}", "{{ 1 / 0 }}", "{{ 1 % 0 }}", "{{ 1 // 0.0 }}",
    "{{ 'a' + 'b' * 3 }}", "{{ [1] + [2] * 2 }}", "{{ 'a' + 1 }}", "{{ 'a' ~ 1 ~ none ~ true ~ missing ~ 1.0 }}",
    "{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }}", "{{ 1 < 'a' }}",
    "{{ 1 == 1.0 }} {{ true == 1 }} {{ '1' == 1 }} {{ none == false }} {{ [1] == (1,) }}",
    "{{ missing == missing }} {{ missing == '' }} {{ missing is defined }} {{ missing is undefined }}",
    "{{ 'W' in s }} {{ 'x' not in s }} {{ 3 in l }} {{ 'a' in m }} {{ 4 in l }}", "{{ 1 in s }}", "{{ 'a' in missing }}",
    "{{ not n }} {{ not not n }} {{ n and 0 }} {{ 0 or 'x' }} {{ e or none or [] }}|",
    "{{ 'y' if n > 5 else 'z' }} {{ 'y' if n > 50 }}|", "{{ 'a' if 0 else 'b' if 0 else 'c' }}",
    "{{ l[0] }} {{ l[-1] }} {{ l[9] }}|{{ l[1:] }} {{ l[:-1] }} {{ l[::-1] }} {{ l[5:] }} {{ l[-2:] }} {{ l[::2] }} {{ l[2:0:-1] }}",
    "{{ s[0] }} {{ s[-1] }} {{ s[1:4] }} {{ s[::-1] }} {{ s[8:] }} {{ s[-4:-1] }} {{ s[::3] }} {{ s[99:] }}|",
    "{{ l[::0] }}", "{{ l['x'] }}|{{ m['zz'] }}|{{ m.zz }}|{{ n.x }}|", "{{ missing.x }}", "{{ missing['x'] }}", "{{ none.x }}|", "{{ m.zz.y }}",
    "{{ m['items'] }} {{ m.keys() | list }} {{ m.values() | list }}", "{{ m.get('b') }} {{ m.get('z') }} {{ m.get('z', 5) }}",
    "{{ m.items()|list }}", "{% for k, v in m.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in m %}{{ k }}{% endfor %}",
    "{% for k, v in m|dictsort %}{{ k }}{% endfor %}", "{% for k, v in m|items %}{{ k }}{% endfor %}",
    "{% for c in 'abc' %}{{ loop.index }}{{ c }}{{ loop.revindex0 }}{% endfor %}",
    "{% for x in l %}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }}{{ loop.first }}{{ loop.last }} {% endfor %}",
    "{% for x in [] %}a{% else %}b{% endfor %}", "{% for x in missing %}a{% else %}b{% endfor %}", "{% for x in none %}a{% endfor %}", "{% for x in 5 %}a{% endfor %}",
    "{% for x in range(3) %}{{ x }}{% endfor %}{{ range(1, 10, 3)|list }}{{ range(5, 0, -2)|list }}", "{{ range(10, 0)|list }}", "{{ range(200000)|length }}",
    "{% for x in l if x > 1 %}{{ loop.index }}:{{ x }}/{{ loop.length }} {% endfor %}",
    "{% for x in [1, [2, [3, 4]], 5] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}@{{ loop.depth }}{% endif %}{% endfor %}",
    "{% set x = 1 %}{% for i in l %}{% set x = i %}{% endfor %}{{ x }}", "{% set x = 1 %}{% if t %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% set ns = namespace(a=1, b=[]) %}{% for i in l %}{% set ns.a = ns.a + i %}{% set ns.b = ns.b + [i] %}{% endfor %}{{ ns.a }} {{ ns.b }}",
    "{% set m.x = 1 %}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a = 1, 2 %}{{ a }}", "{% set a, b = [1] %}",
    "{% set x %}a{{ n }}{% endset %}[{{ x }}]", "{% set x | upper %}abc{% endset %}{{ x }}",
    "{% macro f(a, b=2, *c) %}{% endmacro %}", "{% macro f(a, b=2) %}{{ a }}-{{ b }}|{% endmacro %}{{ f(1) }}{{ f(1, 3) }}{{ f(b=1, a=0) }}{{ f() }}",
    "{% macro f(a) %}{{ a }}{{ n }}{{ x }}{% endmacro %}{% set x = 9 %}{{ f(1) }}{% for x in [5] %}{{ f(2) }}{% endfor %}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(z=2) }}", "{% macro f() %}a{% endmacro %}{{ f() ~ f() | upper }}{{ f.name }}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% macro w(x) %}<{{ caller(x) }}>{% endmacro %}{% call(y) w(3) %}{{ y * 2 }}{{ n }}{% endcall %}",
    "{% macro w() %}{% if caller %}{{ caller() }}{% else %}none{% endif %}{% endmacro %}{{ w() }}{% call w() %}x{% endcall %}",
    "{% with x = 1, y = 2 %}{{ x }}{{ y }}{% endwith %}{{ x }}|", "{% with %}{% set z = 1 %}{{ z }}{% endwith %}{{ z }}|",
    "{% filter upper|replace('A', 'b') %}abc{% endfilter %}", "{% raw %}{{ x }}{% endraw %}{{ '{{' }}", "{# c #}a{#- d -#} b",
    "{% if n == 1 %}a{% elif n == 7 %}b{% else %}c{% endif %}", "{% if missing %}a{% endif %}|", "{% if missing.x %}a{% endif %}|",
    "{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{{ s|upper }} {{ s|lower }} {{ s|title }} {{ s|capitalize }} {{ 'a-b c(d'|title }}", "{{ '  x '|trim }}| {{ 'xxaxx'|trim('x') }}", "{{ s|length }} {{ l|length }} {{ m|count }} {{ missing|length }}", "{{ 5|length }}",
    "{{ missing|default('d') }} {{ e|default('d') }} {{ e|default('d', true) }} {{ none|default('d') }} {{ none|d('d', boolean=true) }}",
    "{{ l|join(', ') }} {{ l|join }} {{ u|join('-', attribute='r') }} {{ u|map(attribute='v')|join('+') }}", "{{ l|first }} {{ l|last }} {{ []|first }}| {{ s|first }}",
    "{{ l|sort }} {{ l|sort(reverse=true) }} {{ u|sort(attribute='v')|map(attribute='v')|list }} {{ ['b', 'A', 'c']|sort }} {{ ['b', 'A']|sort(case_sensitive=true) }}", "{{ u|sort(attribute='r', reverse=true)|map(attribute='v')|list }}",
    "{{ [1, 'a']|sort }}", "{{ l|max }} {{ l|min }} {{ l|sum }} {{ u|sum(attribute='v') }} {{ []|max }}|", "{{ l|reverse|list }} {{ s|reverse }}", "{{ [1, 1, 2, 'a', 'A']|unique|list }}",
    "{{ u|selectattr('r', 'equalto', 'x')|map(attribute='v')|list }} {{ u|rejectattr('r', 'eq', 'x')|list|length }} {{ u|selectattr('z')|list }} {{ u|selectattr('z', 'defined')|list }}",
    "{{ l|select('gt', 1)|list }} {{ l|select('odd')|list }} {{ l|reject('odd')|list }} {{ ['a', '']|select|list }}", "{{ ['a', 'b']|map('upper')|list }} {{ ['1', '2']|map('int')|sum }} {{ l|map('string')|join('') }}",
    "{{ u|map(attribute='zz', default='-')|join }} {{ u|map(attribute='zz')|list|length }}", "{{ '%s has %d (%.2f) %5s|%-5s|%05d %x %%'|format('a', 3, 2.5, 'r', 'l', 42, 255) }}", "{{ '%s' % s }} {{ '%s-%s' % (1, 2) }} {{ '%(a)s' % {'a': 1} }}", "{{ '%d' % 'x' }}", "{{ '%s %s' % 'x' }}", "{{ '%r' % [q] }}",
    "{{ 3.7|int }} {{ '42'|int }} {{ 'x'|int }} {{ 'x'|int(5) }} {{ '0x1f'|int(base=16) }} {{ '3.9'|int }} {{ none|int }} {{ '7'|float }} {{ 'z'|float }} {{ true|int }}", "{{ 2.5|round }} {{ 3.14159|round(2) }} {{ 2.1|round(method='ceil') }} {{ 2.9|round(0, 'floor') }} {{ 7|round }} {{ 1234|round(-2) }}", "{{ -3|abs }} {{ -2.5|abs }}",
    "{{ 'a\\nb\\n\\nc'|indent }}|{{ 'a\\nb'|indent(2, true) }}|{{ 'a\\n\\nb'|indent(2, blank=true) }}|{{ 'a\\nb'|indent('> ') }}", "{{ s|replace('l', 'L') }} {{ s|replace('l', 'L', 1) }} {{ 'aaa'|replace('', '-') }}", "{{ 'abc'|center(9) }}| {{ 'abc'.center(8, '*') }} {{ 'ab'.center(5, '*') }} {{ 'abc'.ljust(5, '.') }} {{ 'abc'.rjust(5) }} {{ '-4'.zfill(5) }}",
    "{{ s|list }} {{ m|list }} {{ (1, 2)|list }}", "{{ 5|string + 'a' }} {{ l|string }}", "{{ [1, 2, 3, 4, 5]|batch(2)|list }} {{ [1, 2, 3]|batch(2, 0)|list }} {{ [1, 2, 3, 4, 5]|slice(2)|list }} {{ [1, 2, 3]|slice(2, 'x')|list }}", "{{ u|groupby('r')|map('first')|list }}", "{{ 'a b  c'|wordcount }}", "{{ 'hello world foo'|truncate(11) }} {{ 'hello world foo bar'|truncate(11) }} {{ 'hello world foo bar'|truncate(11, true) }} {{ 'hello world foo bar'|truncate(11, true, '>') }}",
    "{{ '<a href=\"x\">'|e }} {{ 'x y/é?'|urlencode }}", "{{ m|attr('b') }}|", "{{ s|nosuch }}", "{{ s is nosuch }}", "{{ nosuch() }}", "{{ s() }}", "{{ s.nosuch() }}", "{{ l.append(1) }}",
    "{{ s.upper() }} {{ s.split(', ') }} {{ ' a  b '.split() }} {{ 'a,b,c'.split(',', 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ' a b c '.split(none, 1) }} {{ ' a b c '.rsplit(none, 1) }} {{ ''.split() }} {{ ''.split(',') }}", "{{ 'a'.split('') }}", "{{ 'a\\nb\\r\\nc'.splitlines() }} {{ 'a\\n'.splitlines(true) }}",
    "{{ ' x '.strip() }}|{{ 'xyx'.strip('x') }}|{{ ' x'.lstrip() }}|{{ 'x '.rstrip() }}|{{ 'abc'.lstrip('ba') }}", "{{ s.startswith('He') }} {{ s.endswith('x') }} {{ s.startswith(('x', 'H')) }}", "{{ s.find('l') }} {{ s.find('z') }} {{ s.rfind('l') }} {{ s.index('W') }} {{ s.count('l') }} {{ s.find('l', 3) }}", "{{ s.index('z') }}", "{{ s.replace('l', '1', 1) }} {{ '-'.join(['a', 'b']) }}", "{{ '-'.join([1]) }}",
    "{{ 'a=b=c'.partition('=') }} {{ 'a=b=c'.rpartition('=') }} {{ 'abc'.partition('x') }}", "{{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('bc') }} {{ 'abc'.removeprefix('x') }}", "{{ 'aBc'.swapcase() }} {{ 'hello world'.title() }} {{ \"they're\".title() }} {{ 'hELLO'.capitalize() }} {{ 'ẞ'.casefold() }}", "{{ 'abc'.isalpha() }} {{ '12'.isdigit() }} {{ ' '.isspace() }} {{ 'aB'.islower() }} {{ 'AB'.isupper() }} {{ 'a1'.isalnum() }} {{ ''.isalpha() }}", "{{ '{} {}'.format(1, 'a') }} {{ '{0}{1}{0}'.format('a', 'b') }} {{ '{x}'.format(x=1) }} {{ '{{}}'.format() }}", "{{ l.index(1) }} {{ l.count(3) }} {{ (1, 2).index(2) }}",
    "{{ n is odd }} {{ n is even }} {{ n is divisibleby 7 }} {{ n is number }} {{ s is string }} {{ m is mapping }} {{ l is sequence }} {{ l is iterable }} {{ none is none }} {{ n is integer }} {{ f is float }} {{ t is boolean }} {{ t is true }} {{ n is eq 7 }} {{ n is in l }} {{ 3 is in l }} {{ s is lower }} {{ 'ab' is lower }} {{ 'AB' is upper }} {{ n is not none }} {{ range is callable }} {{ t is number }} {{ 1 is true }} {{ n is sameas 7 }} {{ n is gt 3 }} {{ n is ge(7) }} {{ s is mapping }} {{ s is sequence }} {{ n is iterable }}",
    "{{ dict(a=1, b=2) }} {{ dict([('x', 1)]) }} {{ dict({'a': 1}, b=2) }}", "{{ raise_exception('boom') }}", "{{ strftime_now('%d %B %Y') }}", "{{ s.__class__ }}|", "{{ ''.__class__.__mro__ }}", "{{ [].__class__.__base__ }}", "{{ self }}", "{{ loop }}|",
    "{{ [1, 2, 3][1:][0] }}", "{{ {'a': {'b': [1, {'c': 5}]}}.a.b[1].c }}", "{{ l|length > 2 and 'x' or 'y' }}", "{{ 'a' 'b' }}", "{{ 1_000 }} {{ 0x10 }} {{ 1e3 }} {{ 1.50 }}", "{{ '\\x41\\u00e9\\n' }}", "{{ \"a'b\" }}{{ 'a\"b' }}", "{{ true }}{{ True }}{{ none }}{{ None }}{{ false }}",
    "{{ l|map('nosuch')|list }}", "{{ u|map(attribute='r')|list|tojson }}", "{{ (n, s)[1] }}", "{{ - n }} {{ + n }} {{ -f }}", "{{ -s }}", "{{ n if n is defined and n else 'z' }}", "{{ m.a|length }}{{ m['a'][-1] }}", "{{ big }} {{ big + 1 }} {{ 10 ** 20 }}", "{{ f // 1 }} {{ 5.0 }} {{ 1e100 }} {{ 0.1 + 0.2 }} {{ 100000000000000000.0 }}",
    "a\n{% if t %}\nb\n{% endif %}\nc", "  {% if t %}  \n  b\n  {% endif %}  \nc", "a {%- if t -%} b {%- endif -%} c", "{% if t +%}\n  x{% endif %}", "\n\n{% if t %}{% endif %}\n\n", "{{ n }}\n{{ n }}\n", "x  {%+ if t %}y{% endif %}", "{#- a -#}\n b", "a\n  {# c #}\nb", "{% for i in l -%}\n  {{ i }}\n{%- endfor %}",
    "{{", "{% if %}", "{% endif %}", "{% for x in %}{% endfor %}", "{% nosuch %}", "{{ a b }}", "{{ 'a }}", "{{ (1 }}", "{{ 1 + }}", "{% set %}", "{% if t %}", "{{ a.1b }}", "{{ }}", "{% break %}", "{% include 'x' %}", "{% macro %}{% endmacro %}",
]

# These differ on purpose.
SKIP = {
    "{% include 'x' %}": "a chat template is one file",
    "{{ self }}": "there are no blocks to refer to",
}


def render(source, variables):
    try:
        return {"text": env.from_string(source).render(**variables)}
    except jinja2.exceptions.TemplateSyntaxError as error:
        return {"error": "syntax"}
    except Exception as error:  # noqa: BLE001 - whatever Jinja raises is the answer
        return {"error": "render", "why": f"{type(error).__name__}: {error}"[:80]}


def main():
    cases = []
    for name, source in TEMPLATES.items():
        for chat_name, chat in CHATS.items():
            variables = {
                "messages": chat["messages"],
                "tools": chat.get("tools"),
                "documents": chat.get("documents"),
                "add_generation_prompt": chat.get("add_generation_prompt", True),
                "bos_token": "<s>",
                "eos_token": "</s>",
                **chat.get("variables", {}),
            }
            cases.append({"template": name, "chat": chat_name, **render(source, variables)})
    snippets = [{"source": source, **render(source, CONTEXT)} for source in SNIPPETS if source not in SKIP]
    out = {
        "now": NOW,
        "templates": TEMPLATES,
        "chats": CHATS,
        "cases": cases,
        "context": {key: value for key, value in CONTEXT.items() if key != "big"},
        "snippets": [snippet for snippet in snippets if "big" not in snippet["source"]],
    }
    path = Path(__file__).with_name("templates.json")
    path.write_text(json.dumps(out, ensure_ascii=True, indent=1) + "\n")
    errors = sum("error" in case for case in cases)
    print(f"{len(TEMPLATES)} templates x {len(CHATS)} chats ({errors} errors), {len(out['snippets'])} snippets")


if __name__ == "__main__":
    main()
