// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/**
 * @title The ledger that one operator settles one log in, in one token
 * @notice Roots are posted, attested, disputed or revoked; accounts claim what an active payouts root says they were
 * ever owed, less what they have claimed. Sending tokens to the ledger is funding.
 *
 * Units: amounts are token units; times are Unix seconds, except in a {WindowLeaf}. Sequences begin at 1.
 *
 * Leaves of both trees are OpenZeppelin's `standard-v1`: keccak256(keccak256(abi.encode(fields))).
 * - payouts: `(address account, uint256 cumulative)`, one per account: all it was ever owed by this ledger
 * - windows: the fields of {WindowLeaf}
 *
 * The head is a fold over everything posted and disputed, and never goes back:
 * - genesis = keccak256(abi.encode(GENESIS_TYPEHASH, chain id, ledger, token, currency, log, first epoch's start))
 * - after a post: keccak256(abi.encode(POST_TYPEHASH, the nine arguments of {post}))
 * - after a dispute: keccak256(abi.encode(DISPUTE_TYPEHASH, previous head, sequence))
 *
 * A post is *attested* once as many auditors as the quorum have attested it or a later one since the last dispute, and
 * *mature* once its delay has passed too. A mature post can never be disputed. It is *active* while it is mature and not
 * revoked; only an active post pays. Nothing leaves the ledger but by a claim, until it has been idle for 400 days.
 */
interface ISettlementLedger {
    // ------------------------------------------------------------------------------------------------- Types

    /**
     * @notice What a ledger is made with, for life; the rate alone can be changed.
     * @param token an ERC-20 of 6 to 18 decimals that neither takes fees nor rebases
     * @param currency ISO 4217 code of the log's currency
     * @param delay seconds: at least 48 hours and twice the chain's forced-inclusion time; 60 on a development chain
     * @param maxRate the most by which posts may raise the total for each day that they settle, token units
     * @param firstEpochStart where the first epoch begins that this ledger settles; what the log earned before is not its
     * @param log digest of the log's id, settings and first ruleset
     */
    struct Settings {
        address token;
        bytes3 currency;
        uint48 delay;
        uint256 maxRate;
        uint64 firstEpochStart;
        bytes32 log;
    }

    /**
     * @notice Who works a ledger, at its birth.
     * @param admin off a development chain a timelock of at least the ledger's delay
     * @param quorum how many of the auditors must attest a post
     */
    struct Hands {
        address admin;
        address poster;
        address[] auditors;
        address[] guardians;
        uint8 quorum;
    }

    /**
     * @notice What the ledger keeps of a post.
     * @param windowsRoot root over the earnings windows that the post settles
     * @param payoutsRoot root over every account's cumulative payout
     * @param total sum of all cumulative payouts
     * @param deposits what customers had paid for sessions still open at `epochEnd`: owed to nobody yet, and not free
     * @param epochEnd end of the last epoch settled, exclusive
     * @param delayEnd from this time on the post is mature, if it is attested
     * @param revoked whether the admin has taken it back
     */
    struct Post {
        bytes32 windowsRoot;
        bytes32 payoutsRoot;
        uint96 total;
        uint88 deposits;
        uint32 epochEnd;
        uint32 delayEnd;
        bool revoked;
    }

    /**
     * @notice A leaf of the windows tree, as the settlement writes it; the ledger does not interpret it.
     * @param machine hash of the machine's id
     * @param start start of the window, epoch milliseconds
     * @param end end of the window, exclusive, epoch milliseconds
     * @param adjusts start of the window that this one adjusts, epoch milliseconds; 0 when it adjusts none
     * @param net earnings less expenses, micros of the log's currency
     * @param windowDigest digest over all that the window says
     */
    struct WindowLeaf {
        bytes32 machine;
        uint64 start;
        uint64 end;
        uint64 adjusts;
        int256 net;
        bytes32 windowDigest;
    }

    /**
     * @notice One payout of a {claimMany}.
     * @param account payee, as in the leaf
     * @param cumulative all that the account was ever owed, as in the leaf
     * @param proof siblings from the leaf up to the payouts root
     */
    struct Payout {
        address account;
        uint256 cumulative;
        bytes32[] proof;
    }

    // ------------------------------------------------------------------------------------------------- Events

    /// @notice The ledger exists; `genesis` is its first head.
    event LedgerCreated(
        bytes32 indexed genesis,
        address indexed token,
        bytes3 currency,
        uint256 delay,
        uint256 maxRate,
        bytes32 log,
        uint256 firstEpochStart,
        uint256 quorum
    );

    /// @notice A run of epochs was posted. `head` is the head after it; the rest are the arguments of {post}.
    event EpochPosted(
        uint256 indexed sequence,
        bytes32 indexed head,
        bytes32 previousHead,
        bytes32 windowsRoot,
        bytes32 payoutsRoot,
        bytes32 manifestHash,
        uint256 epochStart,
        uint256 epochEnd,
        uint256 total,
        uint256 deposits,
        uint256 delayEnd,
        address poster
    );

    /// @notice `auditor`, who saw `head` as the latest head, attests every post up to `sequence`.
    event HeadAttested(uint256 indexed sequence, bytes32 indexed head, address indexed auditor);

    /// @notice Every post up to `sequence` is attested by as many auditors as the quorum.
    event QuorumReached(uint256 indexed sequence, bytes32 indexed head);

    /// @notice The posts `sequence` up to, but not including, `end` are dead. `head` is the head after the dispute.
    event PostDisputed(uint256 indexed sequence, uint256 end, bytes32 indexed head, address indexed guardian);

    /// @notice An active post pays no more. Later posts carry everything it owed.
    event PostRevoked(uint256 indexed sequence, address indexed admin);

    /// @notice Claims stop until `until`.
    event ClaimsPausedUntil(uint256 until, address indexed guardian);

    /// @notice Claims go on before the pause's end.
    event ClaimsResumed(address indexed guardian);

    /// @notice Nothing can be posted until `until`.
    event PostingPausedUntil(uint256 until, address indexed guardian);

    /// @notice Posts go on before the pause's end.
    event PostingResumed(address indexed guardian);

    /// @notice `amount` was paid; `cumulative` is all that the account has claimed from now on.
    event PayoutClaimed(
        address indexed account, uint256 indexed sequence, address recipient, uint256 amount, uint256 cumulative
    );

    /// @notice The token refused to pay `account` in a {claimMany}; it can be claimed again.
    event PayoutReturned(address indexed account, uint256 indexed sequence, uint256 amount);

    /// @notice `amount` that was owed to nobody left a ledger that nobody had posted to for 400 days.
    event LedgerClosed(address indexed recipient, uint256 amount, address indexed admin);

    /// @notice Tokens of another kind, sent here by mistake, left the ledger.
    event TokenRecovered(address indexed other, address indexed recipient, uint256 amount, address indexed admin);

    /// @notice The most by which a day of posts may raise the total has changed.
    event MaxRateChanged(uint256 previousMaxRate, uint256 maxRate, address indexed admin);

    /// @notice How many auditors must attest has changed.
    event QuorumChanged(uint256 previousQuorum, uint256 quorum, address indexed admin);

    // ------------------------------------------------------------------------------------------------- Errors

    /// @notice The token must have 6 to 18 decimals.
    error DecimalsOutOfRange(uint256 decimals);

    /// @notice A currency is three capital letters.
    error CurrencyInvalid(bytes3 currency);

    /// @notice The delay must lie between `least` and `most` seconds.
    error DelayOutOfRange(uint256 delay, uint256 least, uint256 most);

    /// @notice No key may hold two roles, except on a development chain.
    error AccountHoldsAnotherRole(address account, bytes32 role);

    /// @notice Off a development chain the admin is a timelock of at least `least` seconds.
    error AdminNotTimelock(address admin, uint256 least);

    /// @notice A quorum lies between 1 and the number of auditors.
    error QuorumOutOfRange(uint256 quorum, uint256 auditors);

    /// @notice There can be no more auditors.
    error AuditorsTooMany(uint256 most);

    /// @notice A post must carry the next sequence.
    error SequenceMismatch(uint256 sequence, uint256 expected);

    /// @notice A post, an attestation and a dispute must name the current head.
    error HeadMismatch(bytes32 head, bytes32 expected);

    /// @notice A post must end after it starts.
    error EpochEmpty(uint256 epochStart, uint256 epochEnd);

    /// @notice A post must not start before the end of the one before it.
    error EpochOverlaps(uint256 epochStart, uint256 previousEpochEnd);

    /// @notice Only what is over can be posted.
    error EpochNotOver(uint256 epochEnd, uint256 timestamp);

    /// @notice Totals are cumulative and never fall.
    error TotalFalls(uint256 total, uint256 previousTotal);

    /// @notice A post may raise the total by {maxRate} for each day since the end of the one before, at most.
    error RateTooHigh(uint256 step, uint256 limit);

    /// @notice Posting is paused until `until`.
    error PostingPaused(uint256 until);

    /// @notice The ledger must hold all that it will owe, and the deposits beside it: fund it first, or post the previous
    /// payouts root and total.
    error Underfunded(uint256 balance, uint256 owed, uint256 deposits);

    /// @notice No such post: never made, or disputed.
    error PostUnknown(uint256 sequence);

    /// @notice The post is attested already, by the quorum or by this auditor.
    error PostAttested(uint256 sequence, uint256 attested);

    /// @notice A mature post can't be disputed any more.
    error PostMature(uint256 sequence);

    /// @notice The post is not attested, its delay has not passed, or it is disputed or revoked.
    error PostNotActive(uint256 sequence);

    /// @notice A pause lasts 1 second to 7 days.
    error PauseOutOfRange(uint256 duration, uint256 most);

    /// @notice The next pause of this kind can't start before `earliest`: no guardian can stop claims or posts for good.
    error PauseTooSoon(uint256 earliest);

    /// @notice There is no pause to lift.
    error NotPaused();

    /// @notice Claims are paused until `until`.
    error ClaimsPaused(uint256 until);

    /// @notice The leaf is not under the payouts root of this post.
    error ProofInvalid(uint256 sequence, address account, uint256 cumulative);

    /// @notice The account has claimed all of this already.
    error NothingToClaim(address account, uint256 cumulative, uint256 claimedBefore);

    /// @notice The root promises more than its post's total: claims stop at the highest active total claimed against.
    error ClaimsExceedTotal(uint256 claimed, uint256 activeTotal);

    /// @notice Neither the zero address nor the ledger itself can be paid.
    error RecipientInvalid(address recipient);

    /// @notice What is owed to nobody stays until 400 days after the last post.
    error TooEarlyToClose(uint256 earliest);

    /// @notice The ledger's own token leaves by claims alone.
    error TokenNotForeign(address token);

    // ------------------------------------------------------------------------------------------------- Posting

    /**
     * @notice Posts a run of epochs. For the poster.
     * @dev The ledger must hold what it will owe, and the deposits beside it: no post can promise to one what another
     * has paid for and not used. An unfunded run may be posted in arrears: its windows root with the payouts root and the
     * total of the post before it; its deposits must be covered all the same.
     * @param sequence must be {nextSequence}
     * @param previousHead must be {head}
     * @param windowsRoot root over the windows settled
     * @param payoutsRoot root over every account's cumulative payout
     * @param manifestHash keccak256 of the post's canonical manifest
     * @param epochStart not before the previous post's `epochEnd`
     * @param epochEnd after `epochStart`, not in the future
     * @param total sum of the cumulative payouts: at least the previous post's, at most {maxRate} a day more, below 2^96
     * @param deposits what customers are owed at `epochEnd` that no window holds: payments for open sessions, and refunds
     * in open windows; below 2^88
     */
    function post(
        uint256 sequence,
        bytes32 previousHead,
        bytes32 windowsRoot,
        bytes32 payoutsRoot,
        bytes32 manifestHash,
        uint64 epochStart,
        uint64 epochEnd,
        uint256 total,
        uint256 deposits
    ) external;

    /**
     * @notice Attests every post up to `sequence`. For each of the auditors; as many as the quorum make it count.
     * @dev A head covers all that came before it, so one attestation serves any number of posts. A dispute voids what has
     * not made a quorum.
     * @param sequence the last post found right: above {attested}, below {nextSequence}
     * @param expectedHead must be {head}, so that what was checked is what is attested, whatever a reorganisation did
     */
    function attest(uint256 sequence, bytes32 expectedHead) external;

    /**
     * @notice Kills the post `sequence` and every later one. For a guardian. The cost does not depend on how many.
     * @param sequence a post that is not mature
     * @param expectedHead must be {head}: a dispute that is mined late kills nothing that its guardian has not judged
     */
    function dispute(uint256 sequence, bytes32 expectedHead) external;

    /**
     * @notice Stops an active post from paying, for good. For the admin.
     * @dev Later posts stay: they carry every cumulative. Claimed amounts and totals stay as they are.
     * @param sequence an active post
     */
    function revoke(uint256 sequence) external;

    // ------------------------------------------------------------------------------------------------- Claiming

    /**
     * @notice Pays `account` what it has not claimed of `cumulative`. Anyone may call; the money goes to the account.
     * @return amount token units paid
     */
    function claim(address account, uint256 sequence, uint256 cumulative, bytes32[] calldata proof)
        external
        returns (uint256 amount);

    /**
     * @notice Pays the caller's own payout to `recipient`.
     * @return amount token units paid
     */
    function claimTo(address recipient, uint256 sequence, uint256 cumulative, bytes32[] calldata proof)
        external
        returns (uint256 amount);

    /**
     * @notice Pays many accounts. What is claimed already is skipped; what the token refuses is put back and logged, where
     * the ledger's balance has not moved; a wrong proof reverts the whole. A transfer gets 300,000 gas.
     * @return amount token units paid, all together
     */
    function claimMany(uint256 sequence, Payout[] calldata payouts) external returns (uint256 amount);

    // ------------------------------------------------------------------------------------------------- Keeping

    /**
     * @notice Stops claims for a while. For a guardian. A pause can't be prolonged, and the next one can't start within
     * 7 days of its end.
     * @param duration seconds, at most 7 days
     */
    function pauseClaims(uint256 duration) external;

    /// @notice Ends a pause of claims early. For a guardian.
    function resumeClaims() external;

    /// @notice Stops posts for a while: what a stolen poster's key can be met with. For a guardian. As {pauseClaims}.
    function pausePosting(uint256 duration) external;

    /// @notice Ends a pause of posting early. For a guardian.
    function resumePosting() external;

    /**
     * @notice Changes the most by which posts may raise the total for each day that they settle. For the admin.
     * @param newMaxRate token units, below 2^96
     */
    function setMaxRate(uint256 newMaxRate) external;

    /// @notice Changes how many auditors must attest: 1 to all of them. For the admin.
    function setQuorum(uint8 newQuorum) external;

    /// @notice Sends what is owed to nobody, and is no deposit, to `recipient`, 400 days after the last post. For the
    /// admin.
    function close(address recipient) external;

    /// @notice Sends tokens of another kind, which somebody sent here by mistake, to `recipient`. For the admin.
    function recover(IERC20 other, address recipient, uint256 amount) external;

    // ------------------------------------------------------------------------------------------------- Views

    /// @notice The token that is paid.
    function token() external view returns (IERC20);

    /// @notice The log's currency, ISO 4217.
    function currency() external view returns (bytes3);

    /// @notice Seconds between a post and the moment from which it may be mature.
    function delay() external view returns (uint256);

    /// @notice The fold over everything posted and disputed.
    function head() external view returns (bytes32);

    /// @notice The sequence that the next post must carry.
    function nextSequence() external view returns (uint256);

    /// @notice The last post that the quorum has attested; 0 before the first.
    function attested() external view returns (uint256);

    /// @notice Total of the last post: all that was ever owed.
    function total() external view returns (uint256);

    /// @notice Deposits of the last post: what customers had paid for sessions still open.
    function deposits() external view returns (uint256);

    /// @notice End of the last epoch posted.
    function epochEnd() external view returns (uint256);

    /// @notice The most by which posts may raise the total for each day that they settle.
    function maxRate() external view returns (uint256);

    /// @notice How many auditors must attest a post.
    function quorum() external view returns (uint256);

    /// @notice The auditors.
    function auditors() external view returns (address[] memory);

    /// @notice The last post that an auditor has attested since the last dispute; 0 if none.
    function attestedBy(address auditor) external view returns (uint256);

    /// @notice When the last post that lives was made, or the ledger.
    function lastPostAt() external view returns (uint256);

    /// @notice Digest of the log's id, settings and first ruleset, as it was at the ledger's birth.
    function log() external view returns (bytes32);

    /// @notice Where the first epoch begins that this ledger settles.
    function firstEpochStart() external view returns (uint256);

    /// @notice Sum of all claims.
    function claimed() external view returns (uint256);

    /// @notice The highest total of a post claimed against: no more than this is ever paid.
    function activeTotal() external view returns (uint256);

    /// @notice Claims are refused before this time.
    function claimsPausedUntil() external view returns (uint256);

    /// @notice Posts are refused before this time.
    function postingPausedUntil() external view returns (uint256);

    /// @notice All that an account has claimed.
    function claimedBy(address account) external view returns (uint256);

    /// @notice A post that is neither disputed nor yet to come; reverts with {PostUnknown} for any other.
    function getPost(uint256 sequence) external view returns (Post memory);

    /// @notice Whether a post pays: attested, its delay passed, neither disputed nor revoked.
    function isActive(uint256 sequence) external view returns (bool);

    /// @notice What {claim} would pay now, were there no pause; 0 for a post that is not active or a wrong proof.
    function claimable(address account, uint256 sequence, uint256 cumulative, bytes32[] calldata proof)
        external
        view
        returns (uint256);

    /// @notice {total} less {claimed}: what the ledger must hold.
    function owed() external view returns (uint256);

    /// @notice Balance less {owed} and {deposits}; 0 where a token that is not supported has taken more.
    function free() external view returns (uint256);

    /// @notice Whether a window is under the windows root of a post. The post may be active or not: see {isActive}.
    function verifyWindow(uint256 sequence, WindowLeaf calldata leaf, bytes32[] calldata proof)
        external
        view
        returns (bool);
}
