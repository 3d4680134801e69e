// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {ISettlementLedger} from "./ISettlementLedger.sol";
import {LedgerRoles} from "./LedgerRoles.sol";

/**
 * @title SettlementLedger
 * @notice See {ISettlementLedger}. What holds at all times: claimed = sum of claims <= activeTotal <= total, and with a
 * token that neither takes fees nor rebases, balance >= total - claimed; right after a post it also covers the deposits.
 */
contract SettlementLedger is ISettlementLedger, LedgerRoles, ReentrancyGuardTransient {
    using SafeCast for uint256;
    using SafeERC20 for IERC20;

    // -------------------------------------------------------------------------------------- Constants, immutables

    bytes32 public constant GENESIS_TYPEHASH =
        keccak256("Genesis(uint256 chainId,address ledger,address token,bytes3 currency,bytes32 log,uint64 firstEpochStart)");
    bytes32 public constant POST_TYPEHASH = keccak256(
        "Post(uint256 sequence,bytes32 previousHead,bytes32 windowsRoot,bytes32 payoutsRoot,bytes32 manifestHash,uint64 epochStart,uint64 epochEnd,uint256 total,uint256 deposits)"
    );
    bytes32 public constant DISPUTE_TYPEHASH = keccak256("Dispute(bytes32 previousHead,uint256 sequence)");

    /// @notice The longest pause, and the least time between two pauses of one kind.
    uint256 public constant MAX_PAUSE = 7 days;

    /// @notice Above this a delay is taken for a mistake of unit: nothing could ever be claimed.
    uint256 public constant MAX_DELAY = 90 days;

    /// @notice After so long without a post, what is owed to nobody may leave.
    uint256 public constant CLOSING_TIME = 400 days;

    /// @notice A payee's transfer in a batch gets so much gas: a hook of its can't burn that of the others.
    uint256 public constant TRANSFER_GAS = 300_000;

    uint256 private constant LEAST_DELAY = 48 hours;
    uint256 private constant LEAST_DEVELOPMENT_DELAY = 60 seconds;

    /// @inheritdoc ISettlementLedger
    IERC20 public immutable token;

    /// @inheritdoc ISettlementLedger
    bytes3 public immutable currency;

    /// @inheritdoc ISettlementLedger
    uint256 public immutable delay;

    /// @inheritdoc ISettlementLedger
    bytes32 public immutable log;

    /// @inheritdoc ISettlementLedger
    uint256 public immutable firstEpochStart;

    // ------------------------------------------------------------------------------------------------ Storage

    /// @dev All that a claim needs to know of the ledger, in one slot: one read and one write. `attested` stands here,
    /// and not `nextSequence`: a disputed post is above it, so one comparison says both "attested" and "not disputed".
    struct Claims {
        uint96 claimed;
        uint96 activeTotal;
        uint32 attested;
        uint32 pausedUntil;
    }

    Claims private _claims;

    /// @dev One slot, all that a post needs to know of its ledger. The last post is the one before `nextSequence`:
    /// lowering it is all that a dispute has to do. `disputes` counts them: what was attested before one is void, unless
    /// the quorum was reached.
    struct Posting {
        uint96 maxRate;
        uint32 nextSequence;
        uint32 pausedUntil;
        uint32 disputes;
        uint8 quorum;
    }

    /// @dev The last post that an auditor has attested, and how many disputes there had been.
    struct Attestation {
        uint32 sequence;
        uint32 disputes;
    }

    Posting private _posting;

    /// @inheritdoc ISettlementLedger
    bytes32 public head;

    /// @dev By sequence. Number 0 is never written: it is the empty post before the first. What a dispute leaves behind
    /// at or above `nextSequence` is dead, and overwritten whole before its sequence lives again.
    mapping(uint256 sequence => Post) private _posts;

    /// @inheritdoc ISettlementLedger
    mapping(address account => uint256) public claimedBy;

    mapping(address auditor => Attestation) private _attestations;

    // -------------------------------------------------------------------------------------------- Constructor

    /// @param settings what stays as it is, but for the rate
    /// @param hands who works the ledger
    constructor(Settings memory settings, Hands memory hands)
        LedgerRoles(settings.delay, hands.admin, hands.poster, hands.auditors, hands.guardians)
    {
        uint256 decimals = IERC20Metadata(settings.token).decimals();
        if (decimals < 6 || decimals > 18) revert DecimalsOutOfRange(decimals);
        for (uint256 i = 0; i < 3; ++i) {
            if (settings.currency[i] < "A" || settings.currency[i] > "Z") revert CurrencyInvalid(settings.currency);
        }
        uint256 least = _isDevelopmentChain() ? LEAST_DEVELOPMENT_DELAY : LEAST_DELAY;
        if (settings.delay < least || settings.delay > MAX_DELAY) {
            revert DelayOutOfRange(settings.delay, least, MAX_DELAY);
        }
        if (hands.quorum == 0 || hands.quorum > _auditors.length) {
            revert QuorumOutOfRange(hands.quorum, _auditors.length);
        }

        (token, currency, delay) = (IERC20(settings.token), settings.currency, settings.delay);
        (log, firstEpochStart) = (settings.log, settings.firstEpochStart);
        _posting = Posting({
            maxRate: settings.maxRate.toUint96(),
            nextSequence: 1,
            pausedUntil: 0,
            disputes: 0,
            quorum: hands.quorum
        });
        // The empty post before the first ends where the log, or this ledger's part of it, begins.
        _posts[0].epochEnd = uint256(settings.firstEpochStart).toUint32();
        _posts[0].delayEnd = (block.timestamp + settings.delay).toUint32();
        head = keccak256(
            abi.encode(
                GENESIS_TYPEHASH, block.chainid, address(this), settings.token, settings.currency, settings.log,
                settings.firstEpochStart
            )
        );

        emit LedgerCreated(
            head, settings.token, settings.currency, settings.delay, settings.maxRate, settings.log,
            settings.firstEpochStart, hands.quorum
        );
    }

    // ----------------------------------------------------------------------------------------------- External

    /// @inheritdoc ISettlementLedger
    function post(
        uint256 sequence,
        bytes32 previousHead,
        bytes32 windowsRoot,
        bytes32 payoutsRoot,
        bytes32 manifestHash,
        uint64 epochStart_,
        uint64 epochEnd_,
        uint256 total_,
        uint256 deposits_
    ) external nonReentrant onlyRole(POSTER_ROLE) {
        if (previousHead != head) revert HeadMismatch(previousHead, head);
        Posting memory posting = _posting;
        _requireNext(posting, sequence, epochStart_, epochEnd_, total_);
        _requireFunded(total_, deposits_);

        // The arguments' bytes are what abi.encode would make of them, and the decoder has refused dirty ones.
        bytes32 newHead = keccak256(bytes.concat(POST_TYPEHASH, msg.data[4:292]));
        uint256 delayEnd = block.timestamp + delay;
        head = newHead;
        ++posting.nextSequence; // which is `sequence`
        _posting = posting;
        _posts[sequence] = Post({
            windowsRoot: windowsRoot,
            payoutsRoot: payoutsRoot,
            total: total_.toUint96(),
            deposits: deposits_.toUint88(),
            epochEnd: uint32(epochEnd_), // not after now, and now + delay fits
            delayEnd: delayEnd.toUint32(),
            revoked: false
        });

        emit EpochPosted(
            sequence, newHead, previousHead, windowsRoot, payoutsRoot, manifestHash,
            epochStart_, epochEnd_, total_, deposits_, delayEnd, msg.sender
        );
    }

    /// @inheritdoc ISettlementLedger
    function attest(uint256 sequence, bytes32 expectedHead) external onlyRole(AUDITOR_ROLE) {
        if (expectedHead != head) revert HeadMismatch(expectedHead, head);
        _requireKnown(sequence);
        Posting memory posting = _posting;
        uint256 before = Math.max(_claims.attested, _attestedBy(msg.sender, posting.disputes));
        if (sequence <= before) revert PostAttested(sequence, before);

        _attestations[msg.sender] = Attestation(sequence.toUint32(), posting.disputes);
        uint256 reached = _quorumReached(posting);
        if (reached > _claims.attested) {
            _claims.attested = reached.toUint32();
            emit QuorumReached(reached, expectedHead);
        }

        emit HeadAttested(sequence, expectedHead, msg.sender);
    }

    /// @inheritdoc ISettlementLedger
    function dispute(uint256 sequence, bytes32 expectedHead) external onlyRole(GUARDIAN_ROLE) {
        if (expectedHead != head) revert HeadMismatch(expectedHead, head);
        Posting memory posting = _posting;
        if (sequence == 0 || sequence >= posting.nextSequence) revert PostUnknown(sequence);
        uint256 attested_ = _claims.attested;
        if (_isMature(sequence, attested_)) revert PostMature(sequence);

        // Posts mature in order, so nothing above an immature one is mature: no active post is among the dead.
        uint256 end = posting.nextSequence;
        bytes32 newHead = keccak256(abi.encode(DISPUTE_TYPEHASH, expectedHead, sequence));
        head = newHead;
        posting.nextSequence = sequence.toUint32();
        ++posting.disputes;
        _posting = posting;
        if (attested_ >= sequence) _claims.attested = (sequence - 1).toUint32();

        emit PostDisputed(sequence, end, newHead, msg.sender);
    }

    /// @inheritdoc ISettlementLedger
    function revoke(uint256 sequence) external onlyRole(DEFAULT_ADMIN_ROLE) {
        if (!isActive(sequence)) revert PostNotActive(sequence);

        _posts[sequence].revoked = true;

        emit PostRevoked(sequence, msg.sender);
    }

    /// @inheritdoc ISettlementLedger
    function claim(address account, uint256 sequence, uint256 cumulative, bytes32[] calldata proof)
        external
        nonReentrant
        returns (uint256)
    {
        return _claimOne(account, account, sequence, cumulative, proof);
    }

    /// @inheritdoc ISettlementLedger
    function claimTo(address recipient, uint256 sequence, uint256 cumulative, bytes32[] calldata proof)
        external
        nonReentrant
        returns (uint256)
    {
        _requireRecipient(recipient);
        return _claimOne(msg.sender, recipient, sequence, cumulative, proof);
    }

    /// @inheritdoc ISettlementLedger
    function claimMany(uint256 sequence, Payout[] calldata payouts) external nonReentrant returns (uint256 amount) {
        (bytes32 root, uint256 postTotal) = _payingPost(sequence);
        uint256 balance = token.balanceOf(address(this));
        for (uint256 i = 0; i < payouts.length; ++i) {
            Payout calldata payout = payouts[i];
            _requireLeaf(root, sequence, payout.account, payout.cumulative, payout.proof);
            amount += _payOrPutBack(sequence, payout.account, payout.cumulative, postTotal, balance - amount);
        }
    }

    /// @inheritdoc ISettlementLedger
    function pauseClaims(uint256 duration) external onlyRole(GUARDIAN_ROLE) {
        uint32 until = _pauseUntil(duration, _claims.pausedUntil);
        _claims.pausedUntil = until;

        emit ClaimsPausedUntil(until, msg.sender);
    }

    /// @inheritdoc ISettlementLedger
    function resumeClaims() external onlyRole(GUARDIAN_ROLE) {
        if (block.timestamp >= _claims.pausedUntil) revert NotPaused();

        _claims.pausedUntil = block.timestamp.toUint32();

        emit ClaimsResumed(msg.sender);
    }

    /// @inheritdoc ISettlementLedger
    function pausePosting(uint256 duration) external onlyRole(GUARDIAN_ROLE) {
        uint32 until = _pauseUntil(duration, _posting.pausedUntil);
        _posting.pausedUntil = until;

        emit PostingPausedUntil(until, msg.sender);
    }

    /// @inheritdoc ISettlementLedger
    function resumePosting() external onlyRole(GUARDIAN_ROLE) {
        if (block.timestamp >= _posting.pausedUntil) revert NotPaused();

        _posting.pausedUntil = block.timestamp.toUint32();

        emit PostingResumed(msg.sender);
    }

    /// @inheritdoc ISettlementLedger
    function setMaxRate(uint256 newMaxRate) external onlyRole(DEFAULT_ADMIN_ROLE) {
        uint256 previous = _posting.maxRate;

        _posting.maxRate = newMaxRate.toUint96();

        emit MaxRateChanged(previous, newMaxRate, msg.sender);
    }

    /// @inheritdoc ISettlementLedger
    function setQuorum(uint8 newQuorum) external onlyRole(DEFAULT_ADMIN_ROLE) {
        if (newQuorum == 0 || newQuorum > _auditors.length) revert QuorumOutOfRange(newQuorum, _auditors.length);
        uint256 previous = _posting.quorum;

        _posting.quorum = newQuorum;

        emit QuorumChanged(previous, newQuorum, msg.sender);
    }

    /// @inheritdoc ISettlementLedger
    function close(address recipient) external nonReentrant onlyRole(DEFAULT_ADMIN_ROLE) {
        _requireRecipient(recipient);
        uint256 earliest = lastPostAt() + CLOSING_TIME;
        if (block.timestamp < earliest) revert TooEarlyToClose(earliest);
        uint256 amount = free();

        token.safeTransfer(recipient, amount);

        emit LedgerClosed(recipient, amount, msg.sender);
    }

    /// @inheritdoc ISettlementLedger
    function recover(IERC20 other, address recipient, uint256 amount)
        external
        nonReentrant
        onlyRole(DEFAULT_ADMIN_ROLE)
    {
        _requireRecipient(recipient);
        if (address(other) == address(token)) revert TokenNotForeign(address(other));

        other.safeTransfer(recipient, amount);

        emit TokenRecovered(address(other), recipient, amount, msg.sender);
    }

    // -------------------------------------------------------------------------------------------------- Views

    /// @inheritdoc ISettlementLedger
    function nextSequence() external view returns (uint256) {
        return _posting.nextSequence;
    }

    /// @inheritdoc ISettlementLedger
    function attested() external view returns (uint256) {
        return _claims.attested;
    }

    /// @inheritdoc ISettlementLedger
    function total() public view returns (uint256) {
        return _posts[_posting.nextSequence - 1].total;
    }

    /// @inheritdoc ISettlementLedger
    function deposits() public view returns (uint256) {
        return _posts[_posting.nextSequence - 1].deposits;
    }

    /// @inheritdoc ISettlementLedger
    function epochEnd() external view returns (uint256) {
        return _posts[_posting.nextSequence - 1].epochEnd;
    }

    /// @inheritdoc ISettlementLedger
    function maxRate() external view returns (uint256) {
        return _posting.maxRate;
    }

    /// @inheritdoc ISettlementLedger
    function quorum() external view returns (uint256) {
        return _posting.quorum;
    }

    /// @inheritdoc ISettlementLedger
    function auditors() external view returns (address[] memory) {
        return _auditors;
    }

    /// @inheritdoc ISettlementLedger
    function attestedBy(address auditor) external view returns (uint256) {
        return hasRole(AUDITOR_ROLE, auditor) ? _attestedBy(auditor, _posting.disputes) : 0;
    }

    /// @inheritdoc ISettlementLedger
    function lastPostAt() public view returns (uint256) {
        return _posts[_posting.nextSequence - 1].delayEnd - delay;
    }

    /// @inheritdoc ISettlementLedger
    function claimed() external view returns (uint256) {
        return _claims.claimed;
    }

    /// @inheritdoc ISettlementLedger
    function activeTotal() external view returns (uint256) {
        return _claims.activeTotal;
    }

    /// @inheritdoc ISettlementLedger
    function claimsPausedUntil() external view returns (uint256) {
        return _claims.pausedUntil;
    }

    /// @inheritdoc ISettlementLedger
    function postingPausedUntil() external view returns (uint256) {
        return _posting.pausedUntil;
    }

    /// @inheritdoc ISettlementLedger
    function getPost(uint256 sequence) external view returns (Post memory) {
        _requireKnown(sequence);
        return _posts[sequence];
    }

    /// @inheritdoc ISettlementLedger
    function isActive(uint256 sequence) public view returns (bool) {
        return _isMature(sequence, _claims.attested) && !_posts[sequence].revoked;
    }

    /// @inheritdoc ISettlementLedger
    function claimable(address account, uint256 sequence, uint256 cumulative, bytes32[] calldata proof)
        external
        view
        returns (uint256)
    {
        if (!isActive(sequence) || account == address(this)) return 0;
        Post storage paying = _posts[sequence];
        if (!MerkleProof.verifyCalldata(proof, paying.payoutsRoot, _payoutLeaf(account, cumulative))) return 0;
        uint256 amount = Math.saturatingSub(cumulative, claimedBy[account]);
        uint256 limit = Math.max(_claims.activeTotal, paying.total);
        return amount <= limit - _claims.claimed && amount <= token.balanceOf(address(this)) ? amount : 0;
    }

    /// @inheritdoc ISettlementLedger
    function owed() public view returns (uint256) {
        return total() - _claims.claimed;
    }

    /// @inheritdoc ISettlementLedger
    function free() public view returns (uint256) {
        return Math.saturatingSub(token.balanceOf(address(this)), owed() + deposits());
    }

    /// @inheritdoc ISettlementLedger
    function verifyWindow(uint256 sequence, WindowLeaf calldata leaf, bytes32[] calldata proof)
        external
        view
        returns (bool)
    {
        bytes32 leafHash = keccak256(bytes.concat(keccak256(abi.encode(leaf))));
        return _isKnown(sequence) && MerkleProof.verifyCalldata(proof, _posts[sequence].windowsRoot, leafHash);
    }

    // ----------------------------------------------------------------------------------------------- Internal

    /// @dev Checks that a post follows the one before it, and that posting is not paused.
    function _requireNext(
        Posting memory posting,
        uint256 sequence,
        uint256 epochStart_,
        uint256 epochEnd_,
        uint256 total_
    ) private view {
        if (block.timestamp < posting.pausedUntil) revert PostingPaused(posting.pausedUntil);
        if (sequence != posting.nextSequence) revert SequenceMismatch(sequence, posting.nextSequence);
        Post storage last = _posts[sequence - 1];
        (uint256 previousTotal, uint256 previousEnd) = (last.total, last.epochEnd);
        if (epochStart_ >= epochEnd_) revert EpochEmpty(epochStart_, epochEnd_);
        if (epochStart_ < previousEnd) revert EpochOverlaps(epochStart_, previousEnd);
        if (epochEnd_ > block.timestamp) revert EpochNotOver(epochEnd_, block.timestamp);
        if (total_ < previousTotal) revert TotalFalls(total_, previousTotal);
        // By the time that the post adds, not by the post: a hundred posts in one block add no more than one.
        unchecked {
            // 96 and 64 bits, and nothing below what it is taken from.
            uint256 limit = posting.maxRate * (epochEnd_ - previousEnd) / 1 days;
            if (total_ - previousTotal > limit) revert RateTooHigh(total_ - previousTotal, limit);
        }
    }

    /// @dev The end of a pause that begins now. Without a rest between pauses, one that "ends by itself" could be begun
    /// again for ever.
    function _pauseUntil(uint256 duration, uint256 previous) private view returns (uint32) {
        if (duration == 0 || duration > MAX_PAUSE) revert PauseOutOfRange(duration, MAX_PAUSE);
        if (previous != 0 && block.timestamp < previous + MAX_PAUSE) revert PauseTooSoon(previous + MAX_PAUSE);
        return (block.timestamp + duration).toUint32();
    }

    /// @dev The last post that as many of the present auditors as the quorum have attested since the last dispute.
    function _quorumReached(Posting memory posting) private view returns (uint256 reached) {
        uint256 count = _auditors.length;
        uint256[] memory found = new uint256[](count);
        for (uint256 i = 0; i < count; ++i) {
            found[i] = _attestedBy(_auditors[i], posting.disputes);
        }
        for (uint256 i = 0; i < count; ++i) {
            uint256 votes = 0;
            for (uint256 j = 0; j < count; ++j) {
                if (found[j] >= found[i]) ++votes;
            }
            if (votes >= posting.quorum && found[i] > reached) reached = found[i];
        }
    }

    /// @dev 0 where a dispute came after it: what was attested then need not be what stands there now.
    function _attestedBy(address auditor, uint256 disputes_) private view returns (uint256) {
        Attestation memory made = _attestations[auditor];
        return made.disputes == disputes_ ? made.sequence : 0;
    }

    /// @dev Auditors who leave take their attestations with them; those who stay must be enough.
    function _revokeRole(bytes32 role, address account) internal override returns (bool revoked) {
        revoked = super._revokeRole(role, account);
        if (revoked && role == AUDITOR_ROLE) {
            if (_posting.quorum > _auditors.length) revert QuorumOutOfRange(_posting.quorum, _auditors.length);
            delete _attestations[account];
        }
    }

    /// @dev Checks that the ledger holds what it will owe, and beside it what customers paid for sessions still open.
    function _requireFunded(uint256 total_, uint256 deposits_) private view {
        uint256 owedAfter = total_ - _claims.claimed;
        uint256 balance = token.balanceOf(address(this));
        // Compared without a sum, which the poster could make overflow.
        if (balance < owedAfter || balance - owedAfter < deposits_) revert Underfunded(balance, owedAfter, deposits_);
    }

    /// @dev Pays one leaf or reverts.
    function _claimOne(
        address account,
        address recipient,
        uint256 sequence,
        uint256 cumulative,
        bytes32[] calldata proof
    ) private returns (uint256 amount) {
        (bytes32 root, uint256 postTotal) = _payingPost(sequence);
        _requireRecipient(account);
        _requireLeaf(root, sequence, account, cumulative, proof);
        uint256 claimedBefore = claimedBy[account];
        if (cumulative <= claimedBefore) revert NothingToClaim(account, cumulative, claimedBefore);

        amount = cumulative - claimedBefore;
        _book(account, cumulative, amount, postTotal);

        token.safeTransfer(recipient, amount);

        emit PayoutClaimed(account, sequence, recipient, amount, cumulative);
    }

    /// @dev Pays one leaf; skips it where it is claimed already, puts it back where the token refuses the transfer. What
    /// a token says is not believed: only where the ledger's `balance` has not moved was nothing paid.
    function _payOrPutBack(uint256 sequence, address account, uint256 cumulative, uint256 postTotal, uint256 balance)
        private
        returns (uint256 paid)
    {
        _requireRecipient(account);
        uint256 claimedBefore = claimedBy[account];
        if (cumulative <= claimedBefore) return 0;

        uint256 amount = cumulative - claimedBefore;
        _book(account, cumulative, amount, postTotal);

        if (_transfers(account, amount) || token.balanceOf(address(this)) < balance) {
            emit PayoutClaimed(account, sequence, account, amount, cumulative);
            return amount;
        }
        // The lock lets nothing be claimed meanwhile, so this is exactly what was booked.
        claimedBy[account] = claimedBefore;
        _claims.claimed -= amount.toUint96();
        emit PayoutReturned(account, sequence, amount);
    }

    /// @dev Whether the token says that it has transferred, within TRANSFER_GAS.
    function _transfers(address account, uint256 amount) private returns (bool) {
        (bool ok, bytes memory returned) =
            address(token).call{gas: TRANSFER_GAS}(abi.encodeCall(IERC20.transfer, (account, amount)));
        return ok && (returned.length == 0 || (returned.length >= 32 && abi.decode(returned, (uint256)) == 1));
    }

    /// @dev Writes a claim down, never above the highest total of an active post claimed against.
    function _book(address account, uint256 cumulative, uint256 amount, uint256 postTotal) private {
        Claims memory claims = _claims;
        uint256 claimedAfter = claims.claimed + amount;
        uint256 limit = Math.max(claims.activeTotal, postTotal);
        if (claimedAfter > limit) revert ClaimsExceedTotal(claimedAfter, limit);

        claims.claimed = claimedAfter.toUint96();
        claims.activeTotal = limit.toUint96();
        _claims = claims;
        claimedBy[account] = cumulative;
    }

    /// @dev Root and total of an active post, when claims are not paused.
    function _payingPost(uint256 sequence) private view returns (bytes32 payoutsRoot, uint256 postTotal) {
        Claims memory claims = _claims;
        if (block.timestamp < claims.pausedUntil) revert ClaimsPaused(claims.pausedUntil);
        Post storage paying = _posts[sequence];
        if (!_isMature(sequence, claims.attested) || paying.revoked) revert PostNotActive(sequence);
        return (paying.payoutsRoot, paying.total);
    }

    /// @dev Attested and past its delay. Both grow with the sequence, so posts mature in order; both are undone by a
    /// dispute only, which no mature post can meet.
    function _isMature(uint256 sequence, uint256 attested_) private view returns (bool) {
        return sequence != 0 && sequence <= attested_ && block.timestamp >= _posts[sequence].delayEnd;
    }

    function _isKnown(uint256 sequence) private view returns (bool) {
        return sequence != 0 && sequence < _posting.nextSequence;
    }

    function _requireKnown(uint256 sequence) private view {
        if (!_isKnown(sequence)) revert PostUnknown(sequence);
    }

    function _requireLeaf(
        bytes32 root,
        uint256 sequence,
        address account,
        uint256 cumulative,
        bytes32[] calldata proof
    ) private pure {
        if (!MerkleProof.verifyCalldata(proof, root, _payoutLeaf(account, cumulative))) {
            revert ProofInvalid(sequence, account, cumulative);
        }
    }

    function _requireRecipient(address recipient) private view {
        if (recipient == address(0) || recipient == address(this)) revert RecipientInvalid(recipient);
    }

    function _payoutLeaf(address account, uint256 cumulative) private pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(account, cumulative))));
    }
}
