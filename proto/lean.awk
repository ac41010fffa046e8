# SPDX-License-Identifier: Apache-2.0
# Makes the tables that protoc-c writes smaller; the rest of its output passes unchanged.
#
# - A text is an array of its own, one for all tables: the linker drops those of messages that a program does not use, which it
#   cannot do with literals.
# - Names that nothing reads (of the C types, of packages) are gone.
# - Messages have no function that initializes them: message_init() and the library's decoder go by the fields.
# - Tables that number fields are shared by all messages with the same one.

# The name of the array that holds the literal in @line, which is replaced by it.
function name_text(line,   text, at) {
	if (!match(line, /"[^"]*"/))
		return line
	text = substr(line, RSTART, RLENGTH)
	at = RSTART + RLENGTH
	if (!(text in texts)) {
		texts[text] = "text_" ++n_texts
		printf "static const char %s[] = %s;\n", texts[text], text
	}
	return substr(line, 1, RSTART - 1) texts[text] substr(line, at)
}

# { "NAME", "C_NAME", 1 }
function name_value(line) {
	sub(/, "[^"]*",/, ", NULL,", line)
	return name_text(line)
}

# "name", "short name", "C name", "package": the first of the lines that hold a literal stays.
function name_descriptor(   i, seen, table) {
	for (i = 2; i <= n; i++) {
		if (block[i] ~ /^  "/)
			block[i] = seen++ ? "  NULL," : name_text(block[i])
		sub(/\(ProtobufCMessageInit\) [a-z0-9_]+/, "NULL", block[i])
		if (match(block[i], /[a-z0-9_]+__(number_ranges|field_indices_by_name|value_ranges)/)) {
			table = substr(block[i], RSTART, RLENGTH)
			if (table in shared)
				sub(table, shared[table], block[i])
		}
	}
}

# A member of a union has no default: the union is empty at first.
function name_fields(   i, dflt) {
	for (i = 2; i <= n; i++) {
		if (block[i] ~ /^    "/)
			block[i] = name_text(block[i])
		else if (block[i] ~ /&protobuf_c_empty_string/)
			dflt = i
		else if (block[i] ~ /FLAG_ONEOF/ && dflt)
			block[dflt] = "    NULL,"
		else if (block[i] ~ /^  \}/)
			dflt = 0
	}
}

function share(   i, name, body) {
	match(block[1], /[a-z0-9_]+\[/)
	name = substr(block[1], RSTART, RLENGTH - 1)
	for (i = 2; i <= n; i++) {
		sub(/ *\/\*.*\*\//, "", block[i])
		body = body block[i]
	}
	if (!(body in bodies)) {
		bodies[body] = name
		return 1
	}
	shared[name] = bodies[body]
	return 0
}

function end_block(   i, print_it) {
	print_it = 1
	if (block[1] ~ /ProtobufCFieldDescriptor /)
		name_fields()
	else if (block[1] ~ /ProtobufC(Message|Enum|Service)Descriptor /)
		name_descriptor()
	else if (block[1] ~ /ProtobufCEnumValue /)
		for (i = 2; i <= n; i++)
			block[i] = name_value(block[i])
	else if (block[1] ~ /ProtobufC(EnumValueIndex|MethodDescriptor) /)
		for (i = 2; i <= n; i++)
			block[i] = name_text(block[i])
	else if (block[1] ~ /(__number_ranges|__field_indices_by_name|__value_ranges)\[/)
		print_it = share()
	for (i = 1; print_it && i <= n; i++)
		print block[i]
	n = 0
}

BEGIN { print "/* Generated. */\n#define PROTOBUF_C__NO_DEPRECATED\n#include \"protos.h\"" }
n == 0 && /^(static )?const .* =( \{)?$/ { n = 1; block[1] = $0; next }
n > 0 { block[++n] = $0; if (/^\};?$/) end_block(); next }
{ print }
