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
        keccak256("Genesis(uint256 chainId,address ledger,address token,bytes3 currency)");
    bytes32 public constant POST_TYPEHASH = keccak256(
        "Post(uint256 sequence,bytes32 previousHead,bytes32 windowsRoot,bytes32 payoutsRoot,bytes32 manifestHash,uint64 epochStart,uint64 epochEnd,uint256 total,uint256 deposits)"
    );
    bytes32 public constant DISPUTE_TYPEHASH = keccak256("Dispute(bytes32 previousHead,uint256 sequence)");

    /// @notice The longest pause, and the least time between two pauses.
    uint256 public constant MAX_PAUSE = 7 days;

    /// @notice Above this a delay is taken for a mistake of unit: nothing could ever be claimed.
    uint256 public constant MAX_DELAY = 90 days;

    uint256 private constant LEAST_DELAY = 48 hours;
    uint256 private constant LEAST_DEVELOPMENT_DELAY = 60 seconds;

    /// @inheritdoc ISettlementLedger
    IERC20 public immutable token;

    /// @inheritdoc ISettlementLedger
    bytes3 public immutable currency;

    /// @inheritdoc ISettlementLedger
    uint256 public immutable delay;

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

    /// @dev One slot. The last post is the one before `nextSequence`: lowering it is all that a dispute has to do.
    uint96 private _maxStep;
    uint32 private _nextSequence = 1;

    /// @inheritdoc ISettlementLedger
    bytes32 public head;

    /// @dev By sequence. Number 0 is never written: it is the empty post before the first. What a dispute leaves behind
    /// at or above `nextSequence` is dead, and overwritten whole before its sequence lives again.
    mapping(uint256 sequence => Post) private _posts;

    /// @inheritdoc ISettlementLedger
    mapping(address account => uint256) public claimedBy;

    // -------------------------------------------------------------------------------------------- Constructor

    /**
     * @param token_ an ERC-20 of 6 to 18 decimals that neither takes fees nor rebases
     * @param currency_ ISO 4217 code of the log's currency
     * @param delay_ seconds: at least 48 hours and twice the chain's forced-inclusion time; 60 on a development chain.
     * The admin's key changes hands with the same delay.
     * @param maxStep_ the most by which one post may raise the total, token units
     */
    constructor(
        IERC20Metadata token_,
        bytes3 currency_,
        uint48 delay_,
        uint256 maxStep_,
        address admin,
        address poster,
        address auditor,
        address guardian
    ) LedgerRoles(delay_, admin, poster, auditor, guardian) {
        uint256 decimals = token_.decimals();
        if (decimals < 6 || decimals > 18) revert DecimalsOutOfRange(decimals);
        for (uint256 i = 0; i < 3; ++i) {
            if (currency_[i] < "A" || currency_[i] > "Z") revert CurrencyInvalid(currency_);
        }
        uint256 least = _isDevelopmentChain() ? LEAST_DEVELOPMENT_DELAY : LEAST_DELAY;
        if (delay_ < least || delay_ > MAX_DELAY) revert DelayOutOfRange(delay_, least, MAX_DELAY);

        token = token_;
        currency = currency_;
        delay = delay_;
        _maxStep = maxStep_.toUint96();
        head = keccak256(abi.encode(GENESIS_TYPEHASH, block.chainid, address(this), token_, currency_));

        emit LedgerCreated(head, address(token_), currency_, delay_, maxStep_);
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
        _requireNext(sequence, epochStart_, epochEnd_, total_);
        _requireFunded(total_, deposits_);

        // The arguments' bytes are what abi.encode would make of them, and the decoder has refused dirty ones.
        bytes32 newHead = keccak256(bytes.concat(POST_TYPEHASH, msg.data[4:292]));
        uint256 delayEnd = block.timestamp + delay;
        head = newHead;
        _nextSequence = (sequence + 1).toUint32();
        _posts[sequence] = Post({
            windowsRoot: windowsRoot,
            payoutsRoot: payoutsRoot,
            total: total_.toUint96(),
            deposits: deposits_.toUint88(),
            epochEnd: uint256(epochEnd_).toUint32(),
            delayEnd: delayEnd.toUint32(),
            revoked: false
        });

        emit EpochPosted(
            sequence, newHead, previousHead, windowsRoot, payoutsRoot, manifestHash,
            epochStart_, epochEnd_, total_, deposits_, delayEnd
        );
    }

    /// @inheritdoc ISettlementLedger
    function attest(uint256 sequence, bytes32 expectedHead) external onlyRole(AUDITOR_ROLE) {
        if (expectedHead != head) revert HeadMismatch(expectedHead, head);
        _requireKnown(sequence);
        uint256 attestedBefore = _claims.attested;
        if (sequence <= attestedBefore) revert PostAttested(sequence, attestedBefore);

        _claims.attested = sequence.toUint32();

        emit HeadAttested(sequence, expectedHead, msg.sender);
    }

    /// @inheritdoc ISettlementLedger
    function dispute(uint256 sequence) external onlyRole(GUARDIAN_ROLE) {
        _requireKnown(sequence);
        if (_isMature(sequence, _claims.attested)) revert PostMature(sequence);

        // Posts mature in order, so nothing above an immature one is mature: no active post is among the dead.
        uint256 end = _nextSequence;
        bytes32 newHead = keccak256(abi.encode(DISPUTE_TYPEHASH, head, sequence));
        head = newHead;
        _nextSequence = sequence.toUint32();
        if (_claims.attested >= sequence) _claims.attested = (sequence - 1).toUint32();

        emit PostDisputed(sequence, end, newHead, msg.sender);
    }

    /// @inheritdoc ISettlementLedger
    function revoke(uint256 sequence) external onlyRole(DEFAULT_ADMIN_ROLE) {
        if (!isActive(sequence)) revert PostNotActive(sequence);

        _posts[sequence].revoked = true;

        emit PostRevoked(sequence);
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
        for (uint256 i = 0; i < payouts.length; ++i) {
            Payout calldata payout = payouts[i];
            _requireLeaf(root, sequence, payout.account, payout.cumulative, payout.proof);
            amount += _payOrPutBack(sequence, payout.account, payout.cumulative, postTotal);
        }
    }

    /// @inheritdoc ISettlementLedger
    function pause(uint256 duration) external onlyRole(GUARDIAN_ROLE) {
        if (duration == 0 || duration > MAX_PAUSE) revert PauseOutOfRange(duration, MAX_PAUSE);
        // Without a rest between pauses, one that "ends by itself" could be begun again for ever.
        uint256 previous = _claims.pausedUntil;
        if (previous != 0 && block.timestamp < previous + MAX_PAUSE) revert PauseTooSoon(previous + MAX_PAUSE);

        uint256 until = block.timestamp + duration;
        _claims.pausedUntil = until.toUint32();

        emit PauseStarted(until, msg.sender);
    }

    /// @inheritdoc ISettlementLedger
    function unpause() external onlyRole(GUARDIAN_ROLE) {
        if (block.timestamp >= _claims.pausedUntil) revert NotPaused();

        _claims.pausedUntil = block.timestamp.toUint32();

        emit PauseLifted(msg.sender);
    }

    /// @inheritdoc ISettlementLedger
    function withdraw(address recipient, uint256 amount) external nonReentrant onlyRole(DEFAULT_ADMIN_ROLE) {
        _requireRecipient(recipient);
        uint256 available = free();
        if (amount > available) revert WithdrawalExceedsFree(amount, available);

        token.safeTransfer(recipient, amount);

        emit FundsWithdrawn(recipient, amount);
    }

    /// @inheritdoc ISettlementLedger
    function setMaxStep(uint256 newMaxStep) external onlyRole(DEFAULT_ADMIN_ROLE) {
        uint256 previous = _maxStep;

        _maxStep = newMaxStep.toUint96();

        emit MaxStepChanged(previous, newMaxStep);
    }

    // -------------------------------------------------------------------------------------------------- Views

    /// @inheritdoc ISettlementLedger
    function nextSequence() external view returns (uint256) {
        return _nextSequence;
    }

    /// @inheritdoc ISettlementLedger
    function attested() external view returns (uint256) {
        return _claims.attested;
    }

    /// @inheritdoc ISettlementLedger
    function total() public view returns (uint256) {
        return _posts[_nextSequence - 1].total;
    }

    /// @inheritdoc ISettlementLedger
    function deposits() public view returns (uint256) {
        return _posts[_nextSequence - 1].deposits;
    }

    /// @inheritdoc ISettlementLedger
    function epochEnd() external view returns (uint256) {
        return _posts[_nextSequence - 1].epochEnd;
    }

    /// @inheritdoc ISettlementLedger
    function maxStep() external view returns (uint256) {
        return _maxStep;
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
    function pausedUntil() external view returns (uint256) {
        return _claims.pausedUntil;
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
        if (!isActive(sequence)) return 0;
        Post storage paying = _posts[sequence];
        if (!MerkleProof.verifyCalldata(proof, paying.payoutsRoot, _payoutLeaf(account, cumulative))) return 0;
        uint256 amount = Math.saturatingSub(cumulative, claimedBy[account]);
        uint256 limit = Math.max(_claims.activeTotal, paying.total);
        return amount <= limit - _claims.claimed ? amount : 0;
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

    /// @dev Checks that a post follows the one before it.
    function _requireNext(uint256 sequence, uint256 epochStart_, uint256 epochEnd_, uint256 total_) private view {
        if (sequence != _nextSequence) revert SequenceMismatch(sequence, _nextSequence);
        Post storage last = _posts[sequence - 1];
        (uint256 previousTotal, uint256 previousEnd, uint256 step) = (last.total, last.epochEnd, _maxStep);
        if (epochStart_ >= epochEnd_) revert EpochEmpty(epochStart_, epochEnd_);
        if (epochStart_ < previousEnd) revert EpochOverlaps(epochStart_, previousEnd);
        if (epochEnd_ > block.timestamp) revert EpochNotOver(epochEnd_, block.timestamp);
        if (total_ < previousTotal) revert TotalFalls(total_, previousTotal);
        if (total_ - previousTotal > step) revert StepTooLarge(total_ - previousTotal, step);
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
        _requireLeaf(root, sequence, account, cumulative, proof);
        uint256 claimedBefore = claimedBy[account];
        if (cumulative <= claimedBefore) revert NothingToClaim(account, cumulative, claimedBefore);

        amount = cumulative - claimedBefore;
        _book(account, cumulative, amount, postTotal);

        token.safeTransfer(recipient, amount);

        emit PayoutClaimed(account, sequence, recipient, amount, cumulative);
    }

    /// @dev Pays one leaf; skips it where it is claimed already, puts it back where the token refuses the transfer.
    function _payOrPutBack(uint256 sequence, address account, uint256 cumulative, uint256 postTotal)
        private
        returns (uint256 paid)
    {
        uint256 claimedBefore = claimedBy[account];
        if (cumulative <= claimedBefore) return 0;

        uint256 amount = cumulative - claimedBefore;
        _book(account, cumulative, amount, postTotal);

        if (token.trySafeTransfer(account, amount)) {
            emit PayoutClaimed(account, sequence, account, amount, cumulative);
            return amount;
        }
        // The lock lets nothing be claimed meanwhile, so this is exactly what was booked.
        claimedBy[account] = claimedBefore;
        _claims.claimed -= amount.toUint96();
        emit PayoutReturned(account, sequence, amount);
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
        return sequence != 0 && sequence < _nextSequence;
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
