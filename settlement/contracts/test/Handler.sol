// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ISettlementLedger} from "../src/ISettlementLedger.sol";
import {LedgerTest} from "./LedgerTest.sol";
import {bound, vm} from "./Vm.sol";

/// @notice Works a ledger at random and keeps a model of it. Every action it takes must succeed or, where it says so,
/// must be refused: nothing here may revert by accident.
contract Handler is LedgerTest {
    uint256 private constant ACCOUNTS = 4;

    /// @dev The model of a post: what each account was ever owed, and whether it was ever seen active.
    struct Model {
        uint256[ACCOUNTS] cumulatives;
        uint256 total;
        uint256 deposits;
        bytes32 payoutsRoot;
        uint256 delayEnd;
        bool active;
        bool revoked;
    }

    Model[] private posts; // By sequence; number 0 is the empty one.
    Model[] private graveyard; // What disputes killed, with the sequences that it had.
    uint256[] private graves;
    address[ACCOUNTS] public accounts = [address(0xD1), address(0xD2), address(0xD3), address(0xD4)];

    uint256[ACCOUNTS] public paid;
    uint256 public paidInAll;
    uint256 public highestTotalClaimedAgainst;
    bytes32 public modelHead;
    mapping(bytes32 head => bool) private headSeen;
    bool public headRepeated;

    mapping(address auditor => uint256) private voteOf;
    uint256 public modelAttested;

    constructor() {
        setUp();
        token.burn(address(ledger), MONEY);
        posts.push();
        modelHead = ledger.head();
        headSeen[modelHead] = true;
    }

    // ------------------------------------------------------------------------------------------------- Actions

    function fund(uint256 amount) external {
        token.mint(address(ledger), bound(amount, 1, MONEY / 100));
    }

    /// @dev Posts what the ledger can pay; what it can't, in arrears. Deposits take of the rest, and never a unit more.
    function postNext(uint256[ACCOUNTS] memory earned, uint256 deposits) external {
        Model memory next = posts[posts.length - 1];
        uint256 affordable = token.balanceOf(address(ledger)) - ledger.owed();
        for (uint256 i = 0; i < ACCOUNTS; ++i) {
            uint256 amount = bound(earned[i], 0, MONEY / 200);
            if (amount > affordable) continue;
            next.cumulatives[i] += amount;
            next.total += amount;
            affordable -= amount;
        }
        wait(1);
        (next.payoutsRoot, next.active, next.revoked) = (rootOf(payoutsFor(next)), false, false);
        next.delayEnd = block.timestamp + DELAY;
        next.deposits = affordable + 1;
        vm.expectRevert(
            abi.encodeWithSelector(
                ISettlementLedger.Underfunded.selector,
                token.balanceOf(address(ledger)), next.total - paidInAll, next.deposits
            )
        );
        callPost(next);
        next.deposits = bound(deposits, 0, affordable);
        postModel(next);
        vm.assertGe(
            token.balanceOf(address(ledger)), ledger.owed() + ledger.deposits(), "a post covers owed and deposits"
        );
    }

    /// @dev Some auditor attests. A post counts as attested once two of the three have attested it or a later one.
    function attestSome(uint256 pick, uint256 who) external {
        address auditor = threeAuditors()[bound(who, 0, 2)];
        uint256 last = posts.length - 1;
        uint256 least = ledger.attested();
        if (voteOf[auditor] > least) least = voteOf[auditor];
        if (least == last) return;
        voteOf[auditor] = bound(pick, least + 1, last);
        attest(voteOf[auditor], auditor);
        uint256 second = secondVote();
        if (second > modelAttested) modelAttested = second;
        vm.assertEq(ledger.attested(), modelAttested, "two of three");
    }

    function secondVote() private view returns (uint256) {
        (uint256 a, uint256 b, uint256 c) = (voteOf[AUDITOR], voteOf[AUDITOR_2], voteOf[AUDITOR_3]);
        if (a > b) (a, b) = (b, a);
        if (b > c) (b, c) = (c, b);
        return a > b ? a : b;
    }

    function hands() internal view override returns (ISettlementLedger.Hands memory) {
        return handsOf(ADMIN, threeAuditors(), 2);
    }

    /// @dev Disputes some post that is not mature; a mature one must refuse.
    function disputeSome(uint256 pick) external {
        if (posts.length == 1) return;
        uint256 sequence = bound(pick, 1, posts.length - 1);
        if (sequence <= ledger.attested() && block.timestamp >= posts[sequence].delayEnd) {
            bytes32 head = ledger.head();
            vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.PostMature.selector, sequence));
            vm.prank(GUARDIAN);
            ledger.dispute(sequence, head);
            return;
        }
        dispute(sequence);
        if (modelAttested >= sequence) modelAttested = sequence - 1;
        for (uint256 i = 0; i < 3; ++i) {
            voteOf[threeAuditors()[i]] = 0;
        }
        bytes32 tag = keccak256("Dispute(bytes32 previousHead,uint256 sequence)");
        foldHead(keccak256(abi.encode(tag, modelHead, sequence)));
        while (posts.length > sequence) {
            graveyard.push(posts[posts.length - 1]);
            graves.push(posts.length - 1);
            posts.pop();
        }
    }

    function revokeSome(uint256 pick) external {
        if (posts.length == 1) return;
        uint256 sequence = bound(pick, 1, posts.length - 1);
        // Rarely, or nothing would ever be paid.
        if (!ledger.isActive(sequence) || pick % 4 != 0) return;
        revoke(sequence);
        posts[sequence].revoked = true;
    }

    function claimSome(uint256 pick, uint256 i, bool toAnother) external {
        (uint256 sequence, Model memory model) = pickActive(pick);
        if (sequence == 0 || isPaused()) return;
        i = bound(i, 0, ACCOUNTS - 1);
        uint256 cumulative = model.cumulatives[i];
        bytes32[] memory proof = proofOf(payoutsFor(model), i);
        if (cumulative <= paid[i]) {
            vm.expectRevert(
                abi.encodeWithSelector(
                    ISettlementLedger.NothingToClaim.selector, accounts[i], cumulative, paid[i]
                )
            );
            ledger.claim(accounts[i], sequence, cumulative, proof);
            return;
        }
        vm.assertEq(ledger.claimable(accounts[i], sequence, cumulative, proof), cumulative - paid[i], "claimable");
        if (toAnother) {
            vm.prank(accounts[i]);
            ledger.claimTo(accounts[i], sequence, cumulative, proof);
        } else {
            ledger.claim(accounts[i], sequence, cumulative, proof);
        }
        recordPaid(i, cumulative, model.total);
    }

    /// @dev Claims for all; one account may be refused by the token, and is put back.
    function claimBatch(uint256 pick, uint256 refused) external {
        (uint256 sequence, Model memory model) = pickActive(pick);
        if (sequence == 0 || isPaused()) return;
        refused = bound(refused, 0, 2 * ACCOUNTS);
        if (refused < ACCOUNTS) token.setBlocked(accounts[refused], true);
        ledger.claimMany(sequence, batchOf(payoutsFor(model)));
        for (uint256 i = 0; i < ACCOUNTS; ++i) {
            if (i == refused || model.cumulatives[i] <= paid[i]) {
                // A transfer that is put back has still been claimed against the post's total.
                if (model.cumulatives[i] > paid[i]) recordPaid(i, paid[i], model.total);
                continue;
            }
            recordPaid(i, model.cumulatives[i], model.total);
        }
        if (refused < ACCOUNTS) token.setBlocked(accounts[refused], false);
    }

    /// @dev What a dispute killed is never paid, whatever has taken its place since.
    function claimDead(uint256 pick, uint256 i) external {
        if (graves.length == 0 || isPaused()) return;
        pick = bound(pick, 0, graves.length - 1);
        i = bound(i, 0, ACCOUNTS - 1);
        (uint256 sequence, Model memory dead) = (graves[pick], graveyard[pick]);
        if (sequence < posts.length && posts[sequence].payoutsRoot == dead.payoutsRoot) return;
        Payouts memory payouts = payoutsFor(dead);
        bytes memory call =
            abi.encodeCall(ledger.claim, (accounts[i], sequence, dead.cumulatives[i], proofOf(payouts, i)));
        (bool ok,) = address(ledger).call(call);
        // An equal leaf may be in the tree that lives now, with an equal proof; then it is that tree's money.
        if (ok) recordPaid(i, dead.cumulatives[i], posts[sequence].total);
        vm.assertTrue(!ok || ledger.isActive(sequence), "a dead root pays nothing");
    }

    function claimTooEarly(uint256 pick, uint256 i) external {
        if (posts.length == 1 || isPaused()) return;
        uint256 sequence = bound(pick, 1, posts.length - 1);
        if (ledger.isActive(sequence)) return;
        expectNotActive(sequence, payoutsFor(posts[sequence]), bound(i, 0, ACCOUNTS - 1));
    }

    function pauseClaims(uint256 duration, bool lift) external {
        uint256 until = ledger.claimsPausedUntil();
        if (until != 0 && block.timestamp < until + 7 days) return;
        vm.prank(GUARDIAN);
        ledger.pauseClaims(bound(duration, 1, 7 days));
        if (!lift) return;
        vm.prank(GUARDIAN);
        ledger.resumeClaims();
    }

    /// @dev A post is refused while posting is paused; the next action may lift it or wait.
    function pausePosts(uint256 duration) external {
        uint256 until = ledger.postingPausedUntil();
        if (until != 0 && block.timestamp < until + 7 days) return;
        vm.prank(GUARDIAN);
        ledger.pausePosting(bound(duration, 1, 7 days));
        bytes32 head = ledger.head();
        uint256 sequence = ledger.nextSequence();
        until = ledger.postingPausedUntil();
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.PostingPaused.selector, until));
        vm.prank(POSTER);
        ledger.post(sequence, head, "w", "p", "m", 0, 1, 0, 0);
        vm.prank(GUARDIAN);
        ledger.resumePosting();
    }

    function letTimePass(uint256 time) external {
        wait(bound(time, 1 hours, 3 days));
    }

    /// @dev Ends a run: everything that is posted becomes active and is paid.
    function payEverything() external {
        wait(7 days);
        Model memory last = posts[posts.length - 1];
        wait(1);
        (last.active, last.revoked, last.delayEnd) = (false, false, block.timestamp + DELAY);
        last.deposits = 0;
        last.payoutsRoot = rootOf(payoutsFor(last));
        postModel(last);
        uint256 sequence = posts.length - 1;
        attest(sequence, AUDITOR);
        attest(sequence, AUDITOR_3);
        modelAttested = sequence;
        wait(DELAY);
        ledger.claimMany(sequence, batchOf(payoutsFor(last)));
        for (uint256 i = 0; i < ACCOUNTS; ++i) {
            if (last.cumulatives[i] > paid[i]) recordPaid(i, last.cumulatives[i], last.total);
            vm.assertEq(token.balanceOf(accounts[i]), last.cumulatives[i], "all that it was ever owed, however claimed");
        }
        vm.assertEq(ledger.owed(), 0, "nothing is owed");
    }

    // --------------------------------------------------------------------------------------------------- Model

    /// @dev A post once active stays so until it is revoked; posts mature in order. Called after every action.
    function checkPosts() external {
        uint256 previousTotal = 0;
        uint256 previousDelayEnd = 0;
        bool previousMature = true;
        for (uint256 sequence = 1; sequence < posts.length; ++sequence) {
            Model storage model = posts[sequence];
            ISettlementLedger.Post memory posted = ledger.getPost(sequence);
            bool active = ledger.isActive(sequence);
            vm.assertTrue(!model.active || active || model.revoked, "an active post stays active until it is revoked");
            vm.assertTrue(!(active && model.revoked), "a revoked post is not active");
            vm.assertEq(posted.payoutsRoot, model.payoutsRoot, "its root never changes");
            vm.assertEq(posted.total, model.total, "its total never changes");
            vm.assertGe(posted.total, previousTotal, "totals are monotonic");
            vm.assertGe(posted.delayEnd, previousDelayEnd, "activation times are monotonic");
            bool mature = active || model.revoked;
            vm.assertTrue(previousMature || !mature, "no post is mature before its predecessor");
            (previousTotal, previousDelayEnd, previousMature) = (posted.total, posted.delayEnd, mature);
            if (active) model.active = true;
        }
        vm.assertEq(ledger.total(), previousTotal, "the ledger's total is the last post's");
        vm.assertEq(ledger.deposits(), posts[posts.length - 1].deposits, "and so are its deposits");
        vm.assertEq(ledger.nextSequence(), posts.length, "next sequence");
    }

    function postModel(Model memory next) private {
        uint64 end = uint64(block.timestamp);
        bytes32 tag = ledger.POST_TYPEHASH();
        bytes memory fields = abi.encode(
            posts.length, modelHead, keccak256("windows"), next.payoutsRoot, keccak256("manifest"), end - 1, end, next.total,
            next.deposits
        );
        callPost(next);
        foldHead(keccak256(bytes.concat(tag, fields)));
        posts.push(next);
    }

    function callPost(Model memory next) private {
        uint64 end = uint64(block.timestamp);
        vm.prank(POSTER);
        ledger.post(
            posts.length, modelHead, keccak256("windows"), next.payoutsRoot, keccak256("manifest"), end - 1, end, next.total,
            next.deposits
        );
    }

    function foldHead(bytes32 next) private {
        modelHead = next;
        if (headSeen[next]) headRepeated = true;
        headSeen[next] = true;
    }

    function recordPaid(uint256 i, uint256 cumulative, uint256 total) private {
        paidInAll += cumulative - paid[i];
        paid[i] = cumulative;
        if (total > highestTotalClaimedAgainst) highestTotalClaimedAgainst = total;
    }

    function payoutsFor(Model memory model) private view returns (Payouts memory) {
        address[] memory accounts_ = new address[](ACCOUNTS);
        uint256[] memory cumulatives = new uint256[](ACCOUNTS);
        for (uint256 i = 0; i < ACCOUNTS; ++i) {
            (accounts_[i], cumulatives[i]) = (accounts[i], model.cumulatives[i]);
        }
        return payoutsOf(accounts_, cumulatives);
    }

    /// @dev Some active post, or sequence 0 where there is none at or above the one picked.
    function pickActive(uint256 pick) private view returns (uint256 sequence, Model memory model) {
        if (posts.length == 1) return (0, model);
        for (sequence = bound(pick, 1, posts.length - 1); sequence > 0; --sequence) {
            if (ledger.isActive(sequence)) return (sequence, posts[sequence]);
        }
    }

    function isPaused() private view returns (bool) {
        return block.timestamp < ledger.claimsPausedUntil();
    }

    function ledgerAddress() external view returns (address) {
        return address(ledger);
    }

    function tokenAddress() external view returns (address) {
        return address(token);
    }
}
