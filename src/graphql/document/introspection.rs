//! The types of introspection, which the printed schema leaves out. They are the executor's own:
//! arguments and selections below `__schema` and `__type` are checked like all others.

/// Name of the type whose fields are added to the query root.
pub(super) const ENTRY: &str = "__Entry";

/// Definitions of the types of introspection.
pub(super) const TYPES: &str = "
type __Entry { __schema: __Schema! __type(name: String!): __Type }
type __Schema {
    description: String! types: [__Type!]! queryType: __Type! mutationType: __Type subscriptionType: __Type
    directives: [__Directive!]!
}
type __Type {
    kind: __TypeKind! name: String description: String specifiedByURL: String isOneOf: Boolean
    fields(includeDeprecated: Boolean! = false): [__Field!] interfaces: [__Type!] possibleTypes: [__Type!]
    enumValues(includeDeprecated: Boolean! = false): [__EnumValue!]
    inputFields(includeDeprecated: Boolean! = false): [__InputValue!] ofType: __Type
}
type __Field {
    name: String! description: String args(includeDeprecated: Boolean! = false): [__InputValue!]! type: __Type!
    isDeprecated: Boolean! deprecationReason: String
}
type __InputValue {
    name: String! description: String type: __Type! defaultValue: String isDeprecated: Boolean!
    deprecationReason: String
}
type __EnumValue { name: String! description: String isDeprecated: Boolean! deprecationReason: String }
type __Directive {
    name: String! description: String locations: [__DirectiveLocation!]!
    args(includeDeprecated: Boolean! = false): [__InputValue!]! isRepeatable: Boolean!
}
enum __TypeKind { SCALAR OBJECT INTERFACE UNION ENUM INPUT_OBJECT LIST NON_NULL }
enum __DirectiveLocation { QUERY MUTATION SUBSCRIPTION FIELD FRAGMENT_DEFINITION FRAGMENT_SPREAD INLINE_FRAGMENT }
";
