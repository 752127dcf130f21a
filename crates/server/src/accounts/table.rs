//! Who may do what: one table of operations and roles, from which the check at every door and its test are made.

use tertulia_wire::native::kind;

/// What somebody is, for an operation: the first three where it concerns the node, the others where it concerns a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Not logged in, on a node that takes no guests.
    Stranger,
    /// Not logged in.
    Guest,
    /// Logged in.
    Account,
    /// May neither join the group nor send to it.
    Nobody,
    /// May send to the group, not join it.
    Sender,
    /// May join the group.
    Joiner,
    /// May join the group, which nobody owns.
    Keeper,
    /// Owns the group.
    Owner,
    /// May everything.
    Administrator,
}

/// What the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Allowed.
    Yes,
    /// Allowed for what is one's own.
    Own,
    /// Refused; logging in may help.
    LogIn,
    /// Refused.
    No,
    /// Answered as if the group were not there.
    Hidden,
}

/// The roles of a table's columns.
pub(crate) const OF_NODE: [Role; 4] =
    [Role::Stranger, Role::Guest, Role::Account, Role::Administrator];
/// The same for operations on a group.
pub(crate) const OF_GROUP: [Role; 7] = [
    Role::Stranger,
    Role::Nobody,
    Role::Sender,
    Role::Joiner,
    Role::Keeper,
    Role::Owner,
    Role::Administrator,
];

/// One row: an operation, what each role may, and how each door calls it.
#[derive(Debug)]
pub(crate) struct Row {
    pub operation: Operation,
    /// [`OF_NODE`] or [`OF_GROUP`].
    pub roles: &'static [Role],
    /// In the order of the roles.
    pub verdicts: &'static [Verdict],
    /// `METHOD /path`, as `/api/openapi.json` writes them.
    pub http: &'static [&'static str],
    /// Frames of a client; whether any was forgotten is tested.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the tests"))]
    pub native: &'static [u8],
    /// Verbs; the same.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the tests"))]
    pub line: &'static [&'static str],
    /// What is said over a WebSocket; the same.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the tests"))]
    pub web: &'static [&'static str],
}

macro_rules! columns {
    (node $($verdict:ident)*) => { (&OF_NODE, &[$(Verdict::$verdict),*]) };
    (group $($verdict:ident)*) => { (&OF_GROUP, &[$(Verdict::$verdict),*]) };
}

macro_rules! table {
    ($($(#[$doc:meta])* $name:ident: $of:ident [$($verdict:ident)*]
        http [$($http:literal)*] native [$($native:ident)*] line [$($line:literal)*]
        web [$($web:literal)*])*) => {
        /// What can be asked for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Operation { $($(#[$doc])* $name,)* }

        /// Every operation's row, in the order of the enum.
        pub(crate) const TABLE: &[Row] = &[$(
            {
                const COLUMNS: (&[Role], &[Verdict]) = columns!($of $($verdict)*);
                Row {
                    operation: Operation::$name,
                    roles: COLUMNS.0,
                    verdicts: COLUMNS.1,
                    http: &[$($http),*],
                    native: &[$(kind::$native),*],
                    line: &[$($line),*],
                    web: &[$($web),*],
                }
            }
        ),*];
    };
}

table! {
    // On the node:          stranger guest account administrator
    /// Greets, sees that the node is alive, reads how it is spoken to.
    Greet: node             [Yes      Yes   Yes     Yes]
        http ["GET /healthz" "GET /api/openapi.json" "GET /api/ws" "GET /api/peers/key"] native [HELLO PING] line ["PING" "HELP" "EXIT"]
        web ["ping"]
    /// Makes an account; the node's rule of registration stands beside this.
    Register: node          [Yes      Yes   Yes     Yes]
        http ["POST /api/register"] native [REGISTER] line [] web []
    /// Shows a password or a token.
    LogIn: node             [Yes      Yes   Yes     Yes]
        http ["POST /api/login"] native [LOGIN AUTH] line ["PASS" "TOKEN"] web []
    /// Gives the token back.
    LogOut: node            [LogIn    LogIn Yes     Yes]
        http ["POST /api/logout"] native [LOGOUT] line [] web []
    /// Changes a password: one's own, with the old one.
    ChangePassword: node    [LogIn    LogIn Own     Yes]
        http ["POST /api/password"] native [PASSWORD] line [] web []
    /// Asks who one is.
    WhoAmI: node            [Yes      Yes   Yes     Yes]
        http ["GET /api/whoami"] native [WHOAMI] line [] web []
    /// How the node is.
    Status: node            [LogIn    Yes   Yes     Yes]
        http ["GET /metrics"] native [STATUS] line [] web []
    /// The groups; those only that one may send to or join.
    List: node              [LogIn    Yes   Yes     Yes]
        http ["GET /api/groups"] native [GROUPS] line ["GROUPS"] web []
    /// Makes a group.
    Create: node            [LogIn    Yes   Yes     Yes]
        http ["POST /api/groups"] native [CREATE] line [] web []
    /// Asks the allocator for a group.
    Allocate: node          [LogIn    Yes   Yes     Yes]
        http ["POST /api/allocate"] native [ALLOCATE] line [] web []

    /// Finds peers and files, and gets the right to fetch.
    Files: node             [LogIn    LogIn Yes     Yes]
        http ["GET /api/peers" "GET /api/files" "GET /api/files/{hash}" "GET /api/files/{hash}/holders" "POST /api/capabilities"]
        native [] line [] web []
    /// Announces one's own peer and its files.
    Share: node             [LogIn    LogIn Yes     Yes]
        http ["PUT /api/peers/me" "DELETE /api/peers/me" "POST /api/files"] native [] line [] web []

    // On a group:           stranger nobody sender joiner keeper owner administrator
    /// Asks where the group is coordinated.
    Locate: group           [LogIn    Hidden Yes   Yes    Yes    Yes   Yes]
        http ["GET /api/directory/{group}"] native [LOCATE] line [] web []
    /// Reads the group's rules (its lists of names: owner and administrators only).
    Rules: group            [LogIn    Hidden Yes   Yes    Yes    Yes   Yes]
        http ["GET /api/groups/{group}/rules"] native [GET_RULES] line [] web []
    /// Sends from outside.
    Send: group             [LogIn    Hidden Yes   Yes    Yes    Yes   Yes]
        http ["POST /api/groups/{group}/messages"] native [OPEN_SENDER PUBLISH] line [] web []
    /// A receipt as it stands; who may not join: counts, and of its own messages.
    Receipt: group          [LogIn    Hidden Own   Yes    Yes    Yes   Yes]
        http ["GET /api/groups/{group}/receipts/{seq}"] native [GET_RECEIPT] line [] web []
    /// Becomes a member, and does what members do.
    Join: group             [LogIn    Hidden No    Yes    Yes    Yes   Yes]
        http [] native [JOIN ACK LEAVE] line ["JOIN" "MSG" "ACK"] web ["join" "send" "confirm" "leave"]
    /// Reads who is in it.
    Members: group          [LogIn    Hidden No    Yes    Yes    Yes   Yes]
        http ["GET /api/groups/{group}"] native [MEMBERS] line ["WHO"] web []
    /// Reads what was said.
    History: group          [LogIn    Hidden No    Yes    Yes    Yes   Yes]
        http ["GET /api/groups/{group}/messages"] native [HISTORY] line ["HISTORY"] web []
    /// Follows what is said.
    Events: group           [LogIn    Hidden No    Yes    Yes    Yes   Yes]
        http ["GET /api/groups/{group}/events"] native [] line [] web []
    /// Removes a member; one's own name's members are one's own.
    Remove: group           [LogIn    Hidden No    Own    Yes    Yes   Yes]
        http [] native [REMOVE] line [] web []
    /// Deletes the group.
    Delete: group           [LogIn    Hidden No    No     Yes    Yes   Yes]
        http [] native [DELETE] line [] web []
    /// Changes the group's rules.
    SetRules: group         [LogIn    Hidden No    No     No     Yes   Yes]
        http ["PUT /api/groups/{group}/rules"] native [SET_RULES] line [] web []
}

impl Operation {
    /// Its row.
    pub const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// Whether it concerns one group.
    pub const fn is_of_group(self) -> bool {
        self.row().roles.len() == OF_GROUP.len()
    }

    /// What `role` may; a role that the row does not know may not.
    pub fn verdict(self, role: Role) -> Verdict {
        let row = self.row();
        let at = row.roles.iter().position(|known| *known == role);
        at.and_then(|at| row.verdicts.get(at)).copied().unwrap_or(Verdict::No)
    }

    /// The operation of a route, such as `GET /api/groups`; what has no row is nobody's.
    pub fn of_http(method: &str, path: &str) -> Option<Self> {
        let is = |route: &&str| route.split_once(' ') == Some((method, path));
        TABLE.iter().find(|row| row.http.iter().any(is)).map(|row| row.operation)
    }

    /// The operation of a frame's kind.
    #[cfg(test)]
    pub fn of_native(kind: u8) -> Option<Self> {
        TABLE.iter().find(|row| row.native.contains(&kind)).map(|row| row.operation)
    }

    /// The operation of a verb of the line door.
    #[cfg(test)]
    pub fn of_line(verb: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.line.contains(&verb)).map(|row| row.operation)
    }

    /// The operation of what is said over a WebSocket.
    #[cfg(test)]
    pub fn of_web(kind: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.web.contains(&kind)).map(|row| row.operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        for (at, row) in TABLE.iter().enumerate() {
            assert_eq!(row.operation as usize, at, "{:?}", row.operation);
            assert_eq!(row.roles.len(), row.verdicts.len(), "{:?}", row.operation);
            let called = row.http.len() + row.native.len() + row.line.len();
            assert!(called > 0, "{:?} is called by no door", row.operation);
        }
        let all: Vec<_> = TABLE.iter().flat_map(|row| row.native).collect();
        let mut once = all.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(all.len(), once.len(), "a frame has two rows");
    }

    #[test]
    fn every_frame_and_every_verb_has_a_row() {
        for (name, code) in kind::CLIENT {
            assert!(Operation::of_native(*code).is_some(), "{name} has no row");
        }
        for verb in tertulia_wire::line::VERBS {
            assert!(Operation::of_line(verb).is_some(), "{verb} has no row");
        }
        let web = crate::doors::http::web_kinds();
        assert!(web.len() >= 5, "{web:?}");
        for kind in web {
            assert!(Operation::of_web(&kind).is_some(), "{kind} over a WebSocket has no row");
        }
        assert!(Operation::of_native(0x7f).is_none());
    }

    #[test]
    fn who_may_more_may_not_less() {
        let rank = |verdict| match verdict {
            Verdict::LogIn | Verdict::Hidden => 0,
            Verdict::No => 1,
            Verdict::Own => 2,
            Verdict::Yes => 3,
        };
        for row in TABLE {
            let ranks: Vec<_> = row.verdicts.iter().map(|verdict| rank(*verdict)).collect();
            // A group's keeper and its owner may different things: the owner more.
            assert!(ranks.is_sorted(), "{:?}", row.operation);
            assert_eq!(row.verdicts.last(), Some(&Verdict::Yes), "{:?}", row.operation);
        }
    }

    #[test]
    fn an_unknown_role_may_nothing() {
        assert_eq!(Operation::History.verdict(Role::Guest), Verdict::No);
        assert_eq!(Operation::List.verdict(Role::Owner), Verdict::No);
    }
}
