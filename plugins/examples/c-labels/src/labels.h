// Which label a container lacks. Plain C on the types of the hook, so that tests/labels.c can ask it
// on any machine.
#pragma once
#include "workload_policy.h"

typedef workload_policy_string_t text;

// The first label that the settings require and the container does not have: `key`, or `key=value`.
// False if it has all of them.
bool lacking(const d2k_policy_types_pairs_t *labels, const d2k_policy_types_pairs_t *settings, text *label);

// Whether a value is a label that can be required.
bool is_label(text value);

// The first of the text before a character; all of it if there is none.
text before(text whole, char end);
